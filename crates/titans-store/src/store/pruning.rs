//! Which old generations go: a pure function over a list.

use super::generation::Generation;

/// The generations beyond the newest and `keep_old` before it.
///
/// Pinned files have other names and never appear in the list.
pub(super) fn expired(generations: &[Generation], keep_old: usize) -> Vec<Generation> {
    let mut newest_first = generations.to_vec();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    newest_first.split_off(newest_first.len().min(keep_old.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_always_stays() {
        let list: Vec<_> = [5, 1, 9, 3].map(Generation::new).into();
        let numbers = |keep| {
            let gone = expired(&list, keep);
            gone.into_iter().map(Generation::number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(0), [5, 3, 1]);
        assert_eq!(numbers(2), [1]);
        assert_eq!(numbers(usize::MAX), [0; 0]);
        assert!(expired(&[], 0).is_empty());
    }
}
