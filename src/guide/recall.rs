//! How much fits, how good a recall is, and who notices when it drops.
//!
//! # How much fits
//!
//! A memory has one size, so it holds a bounded number of pairs and forgets when more is written.
//! These are pairs of random rows of length one, each written once, and how many of them can be
//! told apart with 50 % recall; the tables in [docs/recall.md] have the curves, the command that
//! counts them, and theory beside them.
//!
//! | memory | bytes of state | pairs at 50 % recall |
//! | --- | --- | --- |
//! | [`sparse`](crate::Preset::Sparse), the default | 2 097 156 | 12 709 |
//! | `sparse` with a step of 0.3 | 2 097 156 | 22 182 |
//! | [`lact`](crate::Preset::Lact) | 1 637 892 | 1299 |
//! | [`titans`](crate::Preset::Titans) | 269 828 | 290 |
//! | [`yaad`](crate::Preset::Yaad) | 138 756 | 319 |
//! | [`moneta`](crate::Preset::Moneta) | 138 756 | 265 |
//! | [`memora`](crate::Preset::Memora) | 139 012 | 302 |
//! | [`delta`](crate::Preset::Delta) | 16 388 | 320 |
//! | [`article`](crate::Preset::Article) | 6 274 564 | chance |
//! | a flat index of as many bytes as `sparse` | 2 097 152 | 8192 |
//!
//! Real rows resemble each other more than random ones do, and then less fits: count with your
//! own rows before you rely on a number.
//!
//! # What decides in a long text
//!
//! What is written decides, not how long the text is. A token that the memory predicts well
//! enough, with a relative error of at most
//! [`surprise_threshold`](crate::memory::UpdateConfig::surprise_threshold), is not written at
//! all. In a text that repeats itself, nearly nothing is written after a while, and facts that
//! were stated once stay. In a text where everything is new, nearly everything is written, and
//! the oldest goes first. A gate that is [trained](crate::layers::WriteGate) can tell what is
//! worth keeping there; without one, hand over less.
//!
//! [`UserMemory::tokens_written`](crate::UserMemory::tokens_written) beside
//! [`MemorySnapshot::tokens_seen`](crate::MemorySnapshot::tokens_seen) is the number to look at.
//!
//! # What a recall says of itself
//!
//! [`RecallInfo`](crate::RecallInfo) comes with every recall:
//!
//! | field | says |
//! | --- | --- |
//! | `neighbours` | the stored items whose value is closest to what was recalled; empty unless rows were handed over as [items](crate::UserMemory::observe_item) |
//! | `surprise` | how far the recalled rows are from the nearest of them: 0 is that item exactly, 1 and more is as good as nothing |
//! | `confidence` | how often recalls of this strength were right, measured on this user's own stream; `None` until enough is known |
//! | `version`, `lag` | which snapshot answered, and how many tokens it has not seen |
//!
//! Treat a recall with a low confidence as no answer:
//!
//! ```
//! use titanmem::{ItemId, RecallInfo};
//!
//! /// The item that was recalled, if the memory is at all sure.
//! fn answer(info: &RecallInfo) -> Option<ItemId> {
//!     let nearest = info.neighbours.first()?;
//!     let is_sure = info.confidence.is_none_or(|confidence| confidence > 0.5);
//!     (is_sure && nearest.score > 0.5).then_some(nearest.item)
//! }
//! ```
//!
//! # Who notices when recall drops
//!
//! [`RecallWatch`](crate::RecallWatch) keeps 512 of the pairs that each memory has written, an
//! even sample of its whole stream, and asks for them before a chunk is published. A drop of more
//! than five points since the last good state is
//!
//! | [`OnDrop`](crate::OnDrop) | does | for |
//! | --- | --- | --- |
//! | `Alert`, the default | one [alert](crate::AlertKind::RecallDropped) for each fall; nothing is taken back | memories that are fed more than they hold, and are right to forget |
//! | `RollBack` | the chunk and what waits behind it are dropped, the memory goes back to the last good state; at the second time within ten looks it becomes [read-only](crate::Health::Frozen) | memories whose gate keeps what is written below what fits |
//!
//! It cannot see a decline that is slower than five points from one look to the next, nor harm to
//! what was never written. How it decides, and how often it is right: [docs/recall-watch.md].
//!
//! For a state that you have checked yourself, [`pin`](crate::UserMemory::pin) it;
//! [`roll_back`](crate::UserMemory::roll_back) goes back to it.
//!
//! [docs/recall.md]: https://github.com/titanmem/titanmem/blob/main/docs/recall.md
//! [docs/recall-watch.md]: https://github.com/titanmem/titanmem/blob/main/docs/recall-watch.md
