//! Strongly connected components by Tarjan's algorithm, without recursion: paths are deep.

const UNSEEN: usize = usize::MAX;

/// A move to the state `to`, of these kinds, a bit for each.
pub(super) struct Edge {
    pub(super) to: usize,
    pub(super) duty: u8,
    pub(super) whim: u8,
}

/// A graph that is split into components; some are split again when states are left out.
pub(super) struct Parts<'a> {
    edges: &'a [Vec<Edge>],
    /// The component of each state, or the set that is being split.
    label: Vec<usize>,
    labels: usize,
    /// When a state was visited, and the earliest unlabelled state that it reaches.
    seen: Vec<usize>,
    low: Vec<usize>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(edges: &'a [Vec<Edge>]) -> Self {
        let blank = vec![UNSEEN; edges.len()];
        Self {
            edges,
            label: blank.clone(),
            labels: 0,
            seen: blank.clone(),
            low: blank,
        }
    }

    /// Whether both are in one component.
    pub(super) fn is_together(&self, one: usize, other: usize) -> bool {
        self.label[one] == self.label[other]
    }

    /// Splits these states, by the moves among them.
    pub(super) fn split(&mut self, states: Vec<usize>) -> Vec<Vec<usize>> {
        let whole = self.next_label();
        for s in &states {
            (self.label[*s], self.seen[*s]) = (whole, UNSEEN);
        }
        let (mut parts, mut trail, mut count) = (Vec::new(), Vec::new(), 0);
        for root in states {
            let mut path = vec![(root, 0)];
            while let Some((s, at)) = path.last_mut() {
                let s = *s;
                if self.label[s] != whole {
                    // A root that an earlier one reaches.
                    break;
                }
                if self.seen[s] == UNSEEN {
                    (self.seen[s], self.low[s]) = (count, count);
                    count += 1;
                    trail.push(s);
                }
                if let Some(edge) = self.edges[s].get(*at) {
                    *at += 1;
                    if self.label[edge.to] != whole {
                        continue;
                    }
                    if self.seen[edge.to] == UNSEEN {
                        path.push((edge.to, 0));
                    } else {
                        self.low[s] = self.low[s].min(self.seen[edge.to]);
                    }
                    continue;
                }
                path.pop();
                if let Some((before, _)) = path.last() {
                    self.low[*before] = self.low[*before].min(self.low[s]);
                }
                if self.low[s] == self.seen[s] {
                    parts.push(self.cut(&mut trail, s));
                }
            }
        }
        parts
    }

    /// Everything on the trail from this state on is one component.
    fn cut(&mut self, trail: &mut Vec<usize>, first: usize) -> Vec<usize> {
        let from = trail.iter().rposition(|s| *s == first).unwrap_or_default();
        let part = trail.split_off(from);
        let label = self.next_label();
        for s in &part {
            self.label[*s] = label;
        }
        part
    }

    fn next_label(&mut self) -> usize {
        self.labels += 1;
        self.labels
    }
}
