//! Which columns of a list are shown, and how wide. On a narrow screen they give way from the right; `w`
//! leads through all of them, as many as there is room for at a time.

use super::Column;
use super::jobs::JOBS;
use super::queues::QUEUES;
use crate::tui::msg::Body;
use crate::tui::rows::each;

/// The columns that are drawn, each with its width: those that the list is wide enough for, and of them
/// those that there is room for. `wide` are all from that one on, behind the first.
pub fn shown<T>(columns: &[Column<T>], width: u16, wide: Option<usize>) -> Vec<(usize, usize)> {
    // One for the mark, and one behind each column.
    let mut room = usize::from(width).saturating_sub(1);
    let mut shown: Vec<(usize, usize)> = Vec::new();
    // The last one that grows is what the list is about: it is there before others are.
    let growing = columns.iter().rposition(|column| column.grow).unwrap_or(0);
    let least = columns.get(growing).map_or(0, |column| usize::from(column.width));
    if wide.is_none() {
        room = room.saturating_sub(least + 1);
    }
    for (at, column) in columns.iter().enumerate() {
        let takes = usize::from(column.width) + 1;
        let is_kept = wide.is_none() && at == growing;
        let is_meant = match wide {
            None => column.from <= width,
            Some(from) => at == 0 || at >= from,
        };
        if is_kept {
            shown.push((at, least));
        } else if is_meant && takes <= room {
            room -= takes;
            shown.push((at, takes - 1));
        } else if wide.is_some() && is_meant {
            break;
        }
    }
    // What is left over goes to the one that grows, or else to the last.
    let grows = shown.iter().position(|(at, _)| *at == growing).or(shown.len().checked_sub(1));
    if let Some((_, width)) = grows.and_then(|at| shown.get_mut(at)) {
        *width += room;
    }
    shown
}

/// What `w` shows after what is shown: the columns from one on, or again what fits best.
fn after<T>(columns: &[Column<T>], width: u16, wide: Option<usize>) -> Option<usize> {
    let shown = shown(columns, width, wide);
    match wide {
        None if shown.len() == columns.len() => None,
        None => Some(1),
        // Where there is room for one column alone, the others are led through all the same.
        Some(from) => {
            let last = shown.last().map_or(from, |(at, _)| (*at).max(from));
            (last + 1 < columns.len()).then_some(last + 1)
        }
    }
}

/// The same of what is on a page.
pub fn next(body: &Body, width: u16, wide: Option<usize>) -> Option<usize> {
    match body {
        Body::Overview(_) => after(QUEUES, width, wide),
        Body::Jobs(_) => after(JOBS, width, wide),
        _ => body.rows().and_then(|rows| each!(rows, _list, columns => after(columns, width, wide))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::rows::{jobs, queues, shards, workers};

    fn never_too_wide<T>(columns: &[Column<T>]) {
        for width in 60..260 {
            for wide in std::iter::once(None).chain((1..columns.len()).map(Some)) {
                let taken = shown(columns, width, wide).iter().map(|(_, wide)| wide + 1).sum::<usize>() + 1;
                assert_eq!(taken, usize::from(width), "{wide:?}");
            }
        }
    }

    #[test]
    fn columns_never_take_more_than_there_is() {
        never_too_wide(jobs::JOBS);
        never_too_wide(queues::QUEUES);
        never_too_wide(workers::WORKERS);
        never_too_wide(shards::SHARDS);
    }

    #[test]
    fn every_column_is_seen_at_any_width() {
        for width in [60, 79, 120, 200, 400] {
            let (mut seen, mut wide) = (std::collections::BTreeSet::new(), None);
            for _ in 0..jobs::JOBS.len() {
                seen.extend(shown(jobs::JOBS, width, wide).into_iter().map(|(at, _)| at));
                wide = after(jobs::JOBS, width, wide);
                if wide.is_none() {
                    break;
                }
            }
            assert_eq!((seen.len(), wide), (jobs::JOBS.len(), None), "{width}");
        }
    }
}
