#!/usr/bin/env python3
"""Writes the golden vectors of this folder: the equations once more, in plain Python.

    python3 make.py

Nothing is shared with the crate. Everything is float64, and gradients are exact: every
number carries its derivative with respect to one parameter (a dual number), so there is
no backward pass to get wrong.
"""
import json
import math
import random
import struct
from pathlib import Path


class Dual:
    def __init__(self, value, slope=0.0):
        self.value, self.slope = value, slope

    def __add__(self, other):
        other = dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __sub__(self, other):
        other = dual(other)
        return Dual(self.value - other.value, self.slope - other.slope)

    def __mul__(self, other):
        other = dual(other)
        return Dual(self.value * other.value, self.value * other.slope + self.slope * other.value)

    def __truediv__(self, other):
        other = dual(other)
        quotient = self.value / other.value
        return Dual(quotient, (self.slope - quotient * other.slope) / other.value)

    __radd__, __rmul__ = __add__, __mul__


def dual(x):
    return x if isinstance(x, Dual) else Dual(x)


def apply(x, function, derivative):
    return Dual(function(x.value), derivative(x.value) * x.slope)


def sqrt(x):
    return apply(x, math.sqrt, lambda v: 0.5 / math.sqrt(v))


def absolute(x):
    return apply(x, abs, lambda v: math.copysign(1.0, v))


def power(x, p):
    return apply(x, lambda v: v**p, lambda v: p * v ** (p - 1))


def gelu(x):
    phi = lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2)))
    density = lambda v: math.exp(-0.5 * v * v) / math.sqrt(2 * math.pi)
    return apply(x, lambda v: v * phi(v), lambda v: phi(v) + v * density(v))


def silu(x):
    gate = lambda v: 1 / (1 + math.exp(-v))
    return apply(x, lambda v: v * gate(v), lambda v: gate(v) * (1 + v * (1 - gate(v))))


def relu(x):
    return apply(x, lambda v: max(v, 0.0), lambda v: 1.0 if v > 0 else 0.0)


ACTIVATIONS = {"gelu": gelu, "silu": silu, "relu": relu}


def total(values):
    result = Dual(0.0)
    for value in values:
        result = result + value
    return result


def matvec(row, matrix):
    return [total(x * w for x, w in zip(row, column)) for column in zip(*matrix)]


def predict(config, params, key):
    act = ACTIVATIONS[config["act"]]
    hidden = [dual(x) for x in key]
    for layer in range(config["depth"]):
        if layer:
            hidden = [act(x) for x in hidden]
        hidden = matvec(hidden, params[f"W.{layer}"])
    if config["wrap"] == "ln_res":
        count = len(hidden)
        mean = total(hidden) / count
        centred = [x - mean for x in hidden]
        deviation = sqrt(total(x * x for x in centred) / count + 1e-5)
        hidden = [x / deviation * (g + 1.0) for x, g in zip(centred, params["g"])]
    if config["wrap"] != "plain":
        hidden = [x + k for x, k in zip(hidden, key)]
    return hidden


def token_loss(config, prediction, value):
    error = [p - v for p, v in zip(prediction, value)]
    kind = config["loss"]["kind"]
    if kind.startswith("l2"):
        factor = {"l2_sum": 1.0, "l2_half": 0.5, "l2_mean": 1.0 / len(value)}[kind]
        return total(e * e for e in error) * factor
    if kind == "lp":
        return total(power(absolute(e), config["loss"]["p"]) for e in error)
    delta = config["loss"]["delta"]
    huber = lambda s: s * s * 0.5 if s.value <= delta else (s - 0.5 * delta) * delta
    if kind == "huber":
        return total(huber(absolute(e)) for e in error)
    return huber(sqrt(total(e * e for e in error)))


def rows_of(tensor):
    return tensor if isinstance(tensor[0], list) else [tensor]


def like(tensor, values):
    return values if isinstance(tensor[0], list) else values[0]


def zip_map(function, *tensors):
    rows = [[function(*entries) for entries in zip(*row)] for row in zip(*map(rows_of, tensors))]
    return like(tensors[0], rows)


def gradient(config, params, key, value):
    """The loss of one token and its derivative by every parameter."""
    result = {}
    for name, tensor in params.items():
        rows = rows_of(tensor)
        slopes = []
        for i, row in enumerate(rows):
            slopes.append([])
            for j, entry in enumerate(row):
                row[j] = Dual(entry, 1.0)
                loss = token_loss(config, predict(config, params, key), value)
                slopes[i].append(loss.slope)
                row[j] = entry
        result[name] = like(tensor, slopes)
    return loss.value, result


def norm(tensors):
    return math.sqrt(sum(x * x for t in tensors for row in rows_of(t) for x in row))


def multiply(a, b):
    return [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


def transpose(a):
    return [list(column) for column in zip(*a)]


def newton_schulz(s):
    tall = len(s) > len(s[0])
    x = transpose(s) if tall else s
    size = max(norm([x]), 1e-7)
    x = [[e / size for e in row] for row in x]
    for _ in range(5):
        gram = multiply(x, transpose(x))
        square = multiply(gram, gram)
        mix = zip_map(lambda g, q: -4.7750 * g + 2.0315 * q, gram, square)
        x = zip_map(lambda e, m: 3.4445 * e + m, x, multiply(mix, x))
    return transpose(x) if tall else x


def soft_bound(tensor, bound):
    size = norm([tensor])
    factor = (math.tanh(2 * size / bound) * bound / 2 + bound / 2) / size
    return zip_map(lambda x: x * factor, tensor)


def memory(config, inputs, b):
    """One memory of a case: every `out.*` array."""
    tokens, chunk = config["T"], config["chunk"]
    weights = {n: inputs[f"in.P0.{n}"][b] for n in config["names"]}
    momentum = {n: inputs[f"in.S0.{n}"][b] for n in config["names"]}
    base = weights
    key, value, query = (inputs[f"in.{n}"][b] for n in "kvq")
    theta, eta, alpha = (inputs[f"in.{n}"][b] for n in ("theta", "eta", "alpha"))
    out = {n: [] for n in ("loss", "grad_norm_token", "surprise", "y_start", "y_end", "y_token", "y_peer")}
    for n in config["names"]:
        out[f"G.{n}"], out[f"S.{n}"], out[f"W.{n}"] = [], [], []
    read = lambda w, t: [x.value for x in predict(config, w, query[t])]

    def step(summed, decay, forget):
        nonlocal weights, momentum
        momentum = {n: zip_map(lambda s, g: decay * s - g, momentum[n], summed[n]) for n in summed}
        move = momentum
        if config["spectral"]:
            move = {n: s if n == "g" else newton_schulz(s) for n, s in momentum.items()}
        weights = {n: zip_map(lambda w, s: (1 - forget) * w + s, weights[n], move[n]) for n in summed}
        for n in summed:
            out[f"S.{n}"].append(momentum[n])
            out[f"W.{n}"].append(weights[n])

    for start in range(0, tokens, chunk):
        span = range(start, min(start + chunk, tokens))
        before = weights
        if config["base"] == "chunk":
            base = weights
        elif config["base"] != "initial" and start % config["base"] == 0:
            base = weights
        summed = None
        for t in span:
            loss, slopes = gradient(config, base, key[t], value[t])
            out["loss"].append(loss)
            out["grad_norm_token"].append(norm(slopes.values()))
            scaled = {n: zip_map(lambda g: theta[t] * g, slopes[n]) for n in slopes}
            summed = scaled if summed is None else {
                n: zip_map(lambda a, c: a + c, summed[n], scaled[n]) for n in scaled
            }
            if config["rule"] == "token":
                step(scaled, eta[t], alpha[t])
                out["y_token"].append(read(weights, t))
        if config["max_grad_norm"]:
            summed = {n: soft_bound(g, config["max_grad_norm"]) for n, g in summed.items()}
        out["surprise"].append(norm(summed.values()))
        for n in summed:
            out[f"G.{n}"].append(summed[n])
        if config["rule"] == "chunk":
            step(summed, eta[start // chunk], alpha[start // chunk])
        for t in span:
            out["y_start"].append(read(before, t))
            out["y_end"].append(read(weights, t))
            full = (t + 1) // chunk * chunk
            out["y_peer"].append(read(weights if full > start else before, t))
    if config["rule"] != "token":
        del out["y_token"]
    return out


def shape_of(array):
    shape = []
    while isinstance(array, list):
        shape.append(len(array))
        array = array[0]
    return shape


def flat(array):
    if isinstance(array, list):
        for part in array:
            yield from flat(part)
    else:
        yield array


def save(path, config, arrays):
    header, data, offset = {}, [], 0
    for name in sorted(arrays):
        raw = b"".join(struct.pack("<d", x) for x in flat(arrays[name]))
        header[name] = {
            "dtype": "F64",
            "shape": shape_of(arrays[name]),
            "data_offsets": [offset, offset + len(raw)],
        }
        offset += len(raw)
        data.append(raw)
    header["__metadata__"] = {"config": json.dumps(config)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def make(name, seed, **options):
    config = {
        "name": name, "seed": seed, "B": 1, "T": 7, "dk": 5, "dv": 5, "hid": 6, "depth": 2,
        "wrap": "plain", "act": "gelu", "chunk": 3, "rule": "chunk", "base": "chunk",
        "tail": "apply", "loss": {"kind": "l2_mean"}, "max_grad_norm": None, "spectral": False,
    }
    config.update(options)
    rng = random.Random(seed)
    memories, tokens = config["B"], config["T"]
    gates = tokens if config["rule"] == "token" else -(-tokens // config["chunk"])

    def normal(*shape):
        if not shape:
            return rng.gauss(0.0, 1.0)
        return [normal(*shape[1:]) for _ in range(shape[0])]

    def uniform(low, high, *shape):
        if not shape:
            return rng.uniform(low, high)
        return [uniform(low, high, *shape[1:]) for _ in range(shape[0])]

    dims = [config["dk"], *[config["hid"]] * (config["depth"] - 1), config["dv"]]
    inputs = {
        "in.k": normal(memories, tokens, config["dk"]),
        "in.q": normal(memories, tokens, config["dk"]),
        "in.v": normal(memories, tokens, config["dv"]),
        "in.theta": uniform(0.0, 0.2, memories, tokens),
        "in.eta": uniform(0.0, 0.9, memories, gates),
        "in.alpha": uniform(0.0, 0.3, memories, gates),
    }
    names = []
    for layer, (rows, columns) in enumerate(zip(dims, dims[1:])):
        names.append(f"W.{layer}")
        scale = 1 / math.sqrt(rows)
        inputs[f"in.P0.W.{layer}"] = uniform(-scale, scale, memories, rows, columns)
        inputs[f"in.S0.W.{layer}"] = uniform(-0.05, 0.05, memories, rows, columns)
    if config["wrap"] == "ln_res":
        names.append("g")
        inputs["in.P0.g"] = uniform(-0.2, 0.2, memories, config["dv"])
        inputs["in.S0.g"] = uniform(-0.05, 0.05, memories, config["dv"])
    config["names"] = names
    results = [memory(config, inputs, b) for b in range(memories)]
    arrays = dict(inputs)
    for array in results[0]:
        arrays[f"out.{array}"] = [result[array] for result in results]
    save(Path(__file__).parent / f"{name}.safetensors", config, arrays)


make("ref_own_token_lnres_l2sum", 1, rule="token", wrap="ln_res", loss={"kind": "l2_sum"})
make("ref_own_depth3_silu_huber_initial_two", 2, depth=3, act="silu", B=2, base="initial",
     loss={"kind": "huber", "delta": 0.5})
make("ref_own_relu_res_lp_bound", 3, act="relu", wrap="res", loss={"kind": "lp", "p": 2.5},
     max_grad_norm=0.5)
make("ref_own_spectral", 4, spectral=True, dk=4, dv=6, loss={"kind": "l2_half"})
make("ref_own_every_six_hubernorm", 5, T=14, base=6, loss={"kind": "huber_norm", "delta": 1.5})
make("ref_own_matrix_chunk1", 6, depth=1, chunk=1, T=5)
