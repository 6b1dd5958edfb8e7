//! The graph at the left of the rows: a line down from each step to those that need it. One row a step,
//! so a line that ends in a step or begins there turns on that step's own row. Knows positions only.

/// Where the sign of the step goes.
pub const NODE: char = '\u{0}';

/// The graph beside one step and below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// With [`NODE`] in it.
    pub row: String,
    /// What goes on past the rows of what is inside of the step.
    pub below: String,
}

/// An order in which each step comes after those that it needs, as near to the given one as can be.
/// Steps that need each other, of which there are none, would come last.
pub fn order(needs: &[Vec<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(needs.len());
    let mut open: Vec<usize> = (0..needs.len()).collect();
    while !open.is_empty() {
        let ready = open.iter().position(|at| needs[*at].iter().all(|need| order.contains(need)));
        order.push(open.remove(ready.unwrap_or(0)));
    }
    order
}

/// The graph of steps that stand in this order; `needs` are positions of earlier ones.
pub fn lanes(needs: &[Vec<usize>]) -> Vec<Beside> {
    // What each lane leads to.
    let mut lanes: Vec<Option<usize>> = Vec::new();
    let mut out = Vec::with_capacity(needs.len());
    for at in 0..needs.len() {
        let ends: Vec<usize> = (0..lanes.len()).filter(|lane| lanes[*lane] == Some(at)).collect();
        let own = ends.first().copied().unwrap_or_else(|| free(&mut lanes));
        for lane in &ends {
            lanes[*lane] = None;
        }
        let passing = lanes.clone();
        let wanted: Vec<usize> = (at + 1..needs.len()).filter(|later| needs[*later].contains(&at)).collect();
        let mut begins = Vec::new();
        for (nth, later) in wanted.iter().enumerate() {
            // The first goes straight down, the others beside it.
            let lane = if nth == 0 { own } else { free_beyond(&mut lanes, own, &ends) };
            lanes[lane] = Some(*later);
            begins.push(lane);
        }
        let right = ends.iter().chain(&begins).copied().max().unwrap_or(own).max(own);
        let left = ends.iter().chain(&begins).copied().min().unwrap_or(own).min(own);
        let row = (0..lanes.len().max(passing.len())).map(|lane| {
            let passes = passing.get(lane).is_some_and(Option::is_some);
            let (end, begin) = (ends.contains(&lane), begins.contains(&lane));
            let is_within = (left..=right).contains(&lane);
            let sign = match (lane == own, end, begin, passes) {
                (true, ..) => NODE,
                (_, true, true, _) => '┤',
                (_, true, ..) if lane < right => '┴',
                (_, true, ..) => '╯',
                (_, _, true, _) if lane < right => '┬',
                (_, _, true, _) => '╮',
                (.., true) if is_within => '┼',
                (.., true) => '│',
                _ if is_within => '─',
                _ => ' ',
            };
            let gap = if (left..right).contains(&lane) { '─' } else { ' ' };
            [sign, gap]
        });
        let row: String = row.flatten().collect();
        while lanes.last().is_some_and(Option::is_none) {
            lanes.pop();
        }
        let below = lanes.iter().flat_map(|lane| [if lane.is_some() { '│' } else { ' ' }, ' ']).collect();
        out.push(Beside { row: row.trim_end_matches(' ').to_owned(), below });
    }
    out
}

/// A lane of its own.
fn free(lanes: &mut Vec<Option<usize>>) -> usize {
    match lanes.iter().position(Option::is_none) {
        Some(lane) => lane,
        None => {
            lanes.push(None);
            lanes.len() - 1
        }
    }
}

/// The same, to the right of a step: one that has just ended there if there is one, or a new one, so that
/// no line turns back across another.
fn free_beyond(lanes: &mut Vec<Option<usize>>, own: usize, ends: &[usize]) -> usize {
    let again = ends.iter().copied().find(|lane| *lane > own && lanes[*lane].is_none());
    let found = again.or_else(|| (own + 1..lanes.len()).find(|lane| lanes[*lane].is_none()));
    found.unwrap_or_else(|| {
        lanes.push(None);
        lanes.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(needs: &[&[usize]]) -> String {
        let needs: Vec<Vec<usize>> = needs.iter().map(|needs| needs.to_vec()).collect();
        lanes(&needs).iter().map(|one| one.row.replace(NODE, "●") + "\n").collect()
    }

    #[test]
    fn steps_one_after_the_other_are_one_line() {
        assert_eq!(drawn(&[&[], &[0], &[1]]), "●\n●\n●\n");
    }

    #[test]
    fn a_line_parts_and_comes_together() {
        assert_eq!(drawn(&[&[], &[0], &[0], &[1, 2]]), "●─╮\n● │\n│ ●\n●─╯\n");
        assert_eq!(drawn(&[&[], &[0], &[0], &[0], &[1, 2, 3]]), "●─┬─╮\n● │ │\n│ ● │\n│ │ ●\n●─┴─╯\n");
        assert_eq!(drawn(&[&[], &[], &[0, 1]]), "●\n│ ●\n●─╯\n");
    }

    #[test]
    fn what_stands_alone_has_no_line() {
        let alone = lanes(&[Vec::new(), Vec::new()]);
        assert_eq!((alone[0].row.as_str(), alone[0].below.as_str()), ("\u{0}", ""));
    }

    #[test]
    fn the_order_keeps_needs_first() {
        assert_eq!(order(&[vec![2], vec![], vec![1]]), [1, 2, 0]);
        assert_eq!(order(&[vec![1], vec![0]]), [0, 1], "a circle, which is refused long before, ends");
    }

    proptest::proptest! {
        /// Every line that begins also ends, and each row has one step.
        #[test]
        fn any_graph_can_be_drawn(edges in proptest::collection::vec((0usize..14, 0usize..14), 0..40)) {
            let mut needs = vec![Vec::new(); 14];
            for (a, b) in edges {
                if a != b && !needs[a.max(b)].contains(&a.min(b)) {
                    needs[a.max(b)].push(a.min(b));
                }
            }
            let drawn = lanes(&needs);
            for one in &drawn {
                proptest::prop_assert_eq!(one.row.matches(NODE).count(), 1);
            }
            proptest::prop_assert_eq!(drawn.last().map(|one| one.below.as_str()), Some(""));
        }
    }
}
