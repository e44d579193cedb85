#!/usr/bin/env python3
"""Breaks the durability code of titans-store on purpose and expects the tests to notice.

A crash suite that has never failed proves nothing. Each mutation below removes one flush,
skips one checksum or swaps two steps in a copy of the crate; then the crash and damage tests
must go red. The same for the desk of titans-runtime, which decides who works on a shard, and for
its lines of those who wait, and the models that try them in every order of events. Prints a
table, and exits with 1 if any mutation survives.

Usage: scripts/mutation_check.py [NAME ...]      (all of them take about ten minutes)
       scripts/mutation_check.py desk            (those of the desk alone; also: turns, waiters)
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATE = pathlib.Path("crates/titans-store")
CRASH = ["--test", "crash_at_every_step"]
DAMAGE = ["--test", "rejects_malformed", "--test", "journal_folder", "--test", "store_folder"]
SEALED = ["--test", "encrypted_folder"]
BACKUP = ["--test", "backup_restores_bytes"]
# Not tests of the store: the models of the runtime's protocols.
MODELS = ["verify"]
DESK = "crates/titans-runtime/src/shard/desk.rs"
TURNS = "crates/titans-runtime/src/shard/turns.rs"
WAITERS = "crates/titans-runtime/src/shard/waiters.rs"
# What the models are built from.
MODELLED = [DESK, TURNS, WAITERS, "crates/titans-runtime/src/shard/lease.rs", "crates/titans-runtime/src/published.rs",
            "crates/titans-runtime/src/sync.rs"]

# name, file, text, replacement, tests that must fail
MUTATIONS = [
    ("snapshot: no flush of contents", "src/store/save.rs",
     'file.sync().map_err(io_error(storage, "flush", name))', "Ok(())", CRASH),
    ("snapshot: no flush of the folder", "src/store/save.rs",
     "match storage.sync_folder() {", "match Ok(()) {", CRASH),
    ("snapshot: name before contents are flushed", "src/store/save.rs",
     'file.sync().map_err(io_error(storage, "flush", name))',
     'storage.rename_new(name, &format!("{name}x")).and_then(|()| storage.sync_folder())'
     '.and_then(|()| file.sync()).and_then(|()| storage.rename_new(&format!("{name}x"), name))'
     '.map_err(io_error(storage, "flush", name))', CRASH),
    ("snapshot: folder flushed before the rename", "src/store/save.rs",
     "if let Err(source) = storage.rename_new(temporary, name) {",
     "let _ = storage.sync_folder(); let flushed: std::io::Result<()> = Ok(());\n"
     "    if let Err(source) = storage.rename_new(temporary, name) {", None),
    ("snapshot: flush before the write", "src/store/save.rs",
     'write_whole(&mut *file, bytes).map_err(io_error(storage, "write", name))?;\n'
     '        file.sync().map_err(io_error(storage, "flush", name))',
     'file.sync().map_err(io_error(storage, "flush", name))?;\n'
     '        write_whole(&mut *file, bytes).map_err(io_error(storage, "write", name))', CRASH),
    ("snapshot: the same file flushed again after a failure", "src/store/save.rs",
     'file.sync().map_err(io_error(storage, "flush", name))',
     'file.sync().or_else(|_| file.sync()).map_err(io_error(storage, "flush", name))', CRASH),
    ("snapshot: short writes ignored", "src/fs/mod.rs",
     "bytes = bytes.get(written..).unwrap_or_default()", "{ let _ = written; break }", CRASH),
    ("snapshot: pruned before it is durable", "src/store/saving.rs",
     "let path = save::publish(storage, &temporary, &generation.file_name(), generation)?;\n\n",
     "for old in self.generations()? { let _ = storage.remove(&old.file_name()); }\n"
     "        let path = save::publish(storage, &temporary, &generation.file_name(), generation)?;\n\n",
     CRASH),
    ("journal: no flush of a record", "src/store/journal.rs",
     "self.file.sync_data()?;", "", CRASH),
    ("journal: no flush of the folder", "src/store/saving.rs",
     "            self.storage.sync_folder()?;", "", CRASH),
    ("journal: flush before the write", "src/store/journal.rs",
     "write_whole(&mut *self.file, &record)?;\n        self.file.sync_data()?;",
     "self.file.sync_data()?;\n        write_whole(&mut *self.file, &record)?;", CRASH),
    ("journal: goes on in a file whose flush failed", "src/store/journal.rs",
     "self.file.sync_data()?;", "self.file.sync_data().or_else(|_| self.file.sync_data())?;", CRASH),
    ("journal: rolling checksum not read", "src/store/journal.rs",
     "if hasher.finalize() != crc {", "if false && hasher.finalize() != crc {", CRASH),
    ("journal: checksum not rolling", "src/store/journal.rs",
     "let mut hasher = crc32fast::Hasher::new_with_initial(self.rolling);",
     "let mut hasher = crc32fast::Hasher::new_with_initial(0);", CRASH),
    ("journal: parent of a record not read", "src/codec/delta.rs",
     "if container.header.parent() != Some(link.parent) {", "if false {", CRASH + DAMAGE),
    ("journal: built on an earlier writer's records", "src/store/open.rs",
     "            session: None,\n        };\n        let mut recovery",
     "            session: Some(Session { base: Generation::new(found.highest_sequence),"
     " base_bytes: 1 << 20, journal: None }),\n        };\n        let mut recovery", CRASH),
    ("pin: the old one removed before the new one is durable", "src/store/pin.rs",
     "        storage\n            .sync_folder()\n            .map_err(|source| StoreError::NotDurable {\n"
     "                path: path_of(storage, &pin.file_name()),\n                source,\n            })?;\n",
     "", CRASH),
    ("fence: another writer not looked for", "src/store/saving.rs",
     "Some(found) => Err(StoreError::Overtaken { expected, found }),",
     "Some(found) => { let _ = (expected, found); Ok(()) }", CRASH),
    ("format: preamble checksum not read", "src/format/preamble.rs",
     'checksum(|| "the preamble".to_owned(), checked, 0, crc)?;', "let _ = (checked, crc);", DAMAGE),
    ("format: stored checksum not read", "src/format/section.rs",
     "            self.crc_stored,\n        )?;", "            crc32fast::hash(stored),\n        )?;", DAMAGE),
    ("format: raw checksum not read", "src/codec/decode.rs",
     "checksum(name, &raw, offset, section.crc_raw)?;", "let _ = name;", DAMAGE),
    ("format: digest not read", "src/format/trailer.rs",
     "if found.as_bytes() != &expected {", "if false {", DAMAGE),
    ("format: padding not read", "src/format/section.rs",
     'all_zero("section padding", padding, end)?;', "", DAMAGE),
    ("sealed: place not bound", "src/format/section.rs",
     "        row.append(&mut bound);", "        let _ = row;", SEALED),
    ("backup: digests not read", "src/backup/restore.rs",
     "let found = hex(&hashes.sha256);\n                if found", "let found = expected.to_owned();\n                if found", BACKUP),
    ("desk: a command is begun beside a learner", DESK,
     "|| (needs_quiet && self.learning)", "", MODELS),
    ("desk: learns beside a command that needs quiet", DESK,
     "self.quiet = needs_quiet;", "", MODELS),
    ("desk: learns before a command that waits for quiet", DESK,
     "!self.quiet && !self.line.iter().any(Orders::needs_quiet)", "!self.quiet", MODELS),
    ("desk: two learners have a shard", DESK,
     "let may = !self.learning && self.lets_learn();", "let may = self.lets_learn();", MODELS),
    ("desk: a learner ends in silence", DESK,
     "self.learning = false;\n        self.has_orders()", "self.learning = false;\n        false", MODELS),
    ("desk: files are put back in silence", DESK,
     "self.quiet = false;\n        self.has_orders()", "self.quiet = false;\n        false", MODELS),
    ("desk: it stays quiet after a command", DESK,
     "self.quiet = false;\n        self.has_orders()", "self.has_orders()", MODELS),
    ("desk: a command is begun without the files", DESK,
     "if self.files.is_none() || (needs_quiet && self.learning) {", "if needs_quiet && self.learning {", MODELS),
    ("desk: files in two hands", DESK,
     "        self.files.take()\n", "        self.files.take().or(Some(Files::Lost))\n", MODELS),
    ("desk: a save comes before a command", DESK,
     "if self.has_orders() || matches!", "if matches!", MODELS),
    ("desk: a command is taken when nobody is left", DESK,
     "self.unattended = true;", "", MODELS),
    ("desk: a command is taken when the files are closed", DESK,
     "if self.unattended || matches!(self.files, Some(Files::Closed)) {", "if self.unattended {", MODELS),
    ("desk: what waits is kept when the files are closed", DESK,
     "self.line.clear();", "", MODELS),
    ("desk: what waits is kept when nobody is left", DESK,
     "self.line.drain(..).collect()", "Vec::new()", MODELS),
    ("turns: the last who came is served first", TURNS,
     "self.line.push_back(Place {", "self.line.push_front(Place {", MODELS),
    ("turns: everybody has the turn", TURNS,
     "is_some_and(|first| first.number == number)", "is_some_and(|first| first.number <= number)", MODELS),
    ("turns: whoever leaves wakes nobody", TURNS,
     "0 => self.line.front_mut().and_then(|next| next.waiting.take()),\n            _ => None,", "_ => None,", MODELS),
    ("turns: who gives up stays in line", TURNS,
     "self.line.remove(index).and_then(|place| place.waiting)", "self.line[index].waiting.take()", MODELS),
    ("turns: room is not told", TURNS,
     "queued <= waiting.at_most", "queued < waiting.at_most", MODELS),
    ("turns: a waker is not left", TURNS,
     "self.line[index].waiting.replace(waiting)", "Some(waiting)", MODELS),
    ("turns: the end is told to the first alone", TURNS,
     ".iter_mut()\n", ".iter_mut()\n            .take(1)\n", MODELS),
    ("waiters: the mark is told to one", WAITERS,
     "taken.push(first.remove().1);", "taken.push(first.remove().1);\n            return;", MODELS),
    ("waiters: a waker is not left", WAITERS,
     "self.waiting.insert((place, number), (what, waker))", "Some((what, waker))", MODELS),
    ("waiters: one waits in the place of another", WAITERS,
     "self.arrivals += 1;\n", "", MODELS),
    ("waiters: in the order of arrival and not of places", WAITERS,
     "self.waiting.insert((place, number), (what, waker))", "self.waiting.insert((number, place), (what, waker))", MODELS),
    ("waiters: who gives up leaves a waker", WAITERS,
     "self.waiting.remove(&(place, number))", "None::<(P, W)>", MODELS),
    ("waiters: a setback is told to nobody", WAITERS,
     "std::mem::take(&mut self.waiting)", "std::mem::take(&mut BTreeMap::<(u64, u64), (P, W)>::new())", MODELS),
]
# Swapping the folder flush with the rename, in full: the mutation above needs both halves.
SWAP = ("match storage.sync_folder() {", "match flushed {")


def path_of(copy, file):
    return copy / (file if file in MODELLED else CRATE / file)


def mutate(copy, name, file, old, new):
    path = path_of(copy, file)
    text = path.read_text()
    if text.count(old) < 1:
        sys.exit(f"mutation {name!r} no longer applies to {file}")
    text = text.replace(old, new, 1)
    if "flushed: std::io::Result" in new:
        text = text.replace(*SWAP, 1)
    path.write_text(text)


def run(copy, tests):
    command = ["cargo", "test", "-q", "--offline", "-p", "titans-store", *tests]
    if tests == MODELS:
        command = ["cargo", "test", "-q", "--offline", "--manifest-path", "verify/Cargo.toml"]
    environment = {**os.environ, "TITANMEM_CRASH_THIN": "9"}
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=1200, env=environment)
    output = done.stdout + done.stderr
    if "could not compile" in output:
        return "does not compile", output
    failed = [line.split()[1] for line in output.splitlines()
              if line.startswith("test ") and line.endswith("FAILED")]
    if not failed:
        failed = sorted({line.strip() for line in output.splitlines()
                         if line.startswith("    ") and line.strip().replace("::", "_").isidentifier()})
    return ("green" if done.returncode == 0 else "red"), ", ".join(failed[:2])


def main():
    wanted = sys.argv[1:]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="titans-mutants-") as folder:
        copy = pathlib.Path(folder)
        (copy / "crates").mkdir()
        shutil.copytree(ROOT / CRATE, copy / CRATE)
        shutil.copy(ROOT / "Cargo.lock", copy)
        # Only the crate under test: the rest of the workspace would be built for nothing.
        manifest = (ROOT / "Cargo.toml").read_text()
        workspace = manifest[:manifest.index("\n[package]\n")]
        profiles = manifest[manifest.index("\n[profile.dev]"):]
        workspace = workspace.replace('members = ["crates/*", "examples/prometheus"]', 'members = ["crates/titans-store"]')
        (copy / "Cargo.toml").write_text(workspace + "\n" + profiles)
        shutil.copytree(ROOT / "verify", copy / "verify", ignore=shutil.ignore_patterns("target"))
        for file in MODELLED:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, copy / file)
        chosen = [mutation for mutation in MUTATIONS
                  if not wanted or any(word in mutation[0] for word in wanted)]
        of_store = sorted({test for mutation in chosen if mutation[4] != MODELS
                           for test in (mutation[4] or CRASH) if test != "--test"})
        suites = [[word for test in of_store for word in ("--test", test)]] if of_store else []
        if any(mutation[4] == MODELS for mutation in chosen):
            suites.append(MODELS)
        for suite in suites:
            verdict, failed = run(copy, suite)
            print(f"{'unchanged':<58} {verdict:<8} {failed}", flush=True)
            if verdict != "green":
                sys.exit("the suite must be green before anything is broken")
        for name, file, old, new, tests in chosen:
            original = path_of(copy, file).read_text()
            mutate(copy, name, file, old, new)
            verdict, failed = run(copy, tests or CRASH)
            path_of(copy, file).write_text(original)
            if verdict != "red":
                survivors.append(name)
            print(f"{name:<58} {verdict:<8} {failed if verdict == 'red' else ''}", flush=True)
            if verdict == "does not compile":
                print(failed[-800:], flush=True)
    if survivors:
        sys.exit(f"survived: {', '.join(survivors)}")
    print("every mutation was noticed")


if __name__ == "__main__":
    main()
