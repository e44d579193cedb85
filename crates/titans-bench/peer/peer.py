#!/usr/bin/env python3
"""One row of titans-pytorch: writes and reads a stream, and prints what it took as JSON."""

import argparse
import json
import resource
import time


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dim", type=int, required=True)
    options.add_argument("--depth", type=int, required=True)
    options.add_argument("--chunk", type=int, required=True, help="tokens per update")
    options.add_argument("--call", type=int, help="tokens per call; a whole update if absent")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--seconds", type=float, default=3.0)
    options = options.parse_args()

    import torch
    from titans_pytorch import NeuralMemory

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    # Hidden layers four times as wide, momentum, gradients at the start of each chunk, new
    # weights after each: what the Rust side does. It also projects keys, values, queries and
    # gates, d^2 each, which is left in: 4 of the 100 parts at depth 2.
    memory = NeuralMemory(
        dim=options.dim,
        chunk_size=options.chunk,
        batch_size=options.chunk,
        default_model_kwargs=dict(depth=options.depth, expansion_factor=4.0),
    ).eval()
    call = options.call or options.chunk
    rows = torch.randn(1, options.chunk, options.dim)

    def detached(state):
        """Without the graph of the call before, which would grow without end."""
        if torch.is_tensor(state):
            return state.detach()
        if hasattr(state, "_fields"):
            return type(state)(*(detached(part) for part in state))
        if isinstance(state, (tuple, list)):
            return type(state)(detached(part) for part in state)
        if hasattr(state, "apply") and hasattr(state, "batch_size"):
            return state.apply(lambda tensor: tensor.detach())
        return state

    state = None
    with torch.no_grad():
        def step():
            nonlocal state
            for start in range(0, options.chunk, call):
                read, state = memory(rows[:, start : start + call], state=state)
                state = detached(state)
                assert read.shape[1] == call

        step()
        steps, started, cpu = 0, time.perf_counter(), time.process_time()
        while steps < 2 or time.perf_counter() - started < options.seconds:
            step()
            steps += 1
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    tokens = steps * options.chunk
    print(
        json.dumps(
            {
                "tokens_per_second": tokens / wall,
                "tokens_per_cpu_second": tokens / cpu,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
