//! Topological order, and the path of a cycle where there is none.

use alloc::vec;
use alloc::vec::Vec;

/// A directed graph: an edge goes from a service to what it depends on.
pub(crate) struct Graph {
    targets: Vec<Vec<usize>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    OnPath,
    Done,
}

impl Graph {
    pub fn new(nodes: usize) -> Self {
        Graph { targets: vec![Vec::new(); nodes] }
    }

    pub fn edge(&mut self, from: usize, to: usize) {
        if !self.targets[from].contains(&to) {
            self.targets[from].push(to);
        }
    }

    /// Every node behind its targets; among equals the lower number first. Or a cycle, its first
    /// node repeated at the end. Depth-first, with the stack on the heap.
    pub fn order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let mut marks = vec![Mark::New; self.targets.len()];
        let mut order = Vec::with_capacity(self.targets.len());
        // Node and how many of its targets were visited.
        let mut path: Vec<(usize, usize)> = Vec::new();
        for root in 0..self.targets.len() {
            if marks[root] != Mark::New {
                continue;
            }
            marks[root] = Mark::OnPath;
            path.push((root, 0));
            while let Some((node, visited)) = path.last_mut() {
                let Some(&next) = self.targets[*node].get(*visited) else {
                    marks[*node] = Mark::Done;
                    order.push(*node);
                    path.pop();
                    continue;
                };
                *visited += 1;
                match marks[next] {
                    Mark::Done => {}
                    Mark::New => {
                        marks[next] = Mark::OnPath;
                        path.push((next, 0));
                    }
                    Mark::OnPath => {
                        let nodes = path.iter().map(|&(node, _)| node);
                        let mut cycle: Vec<usize> =
                            nodes.skip_while(|&node| node != next).collect();
                        cycle.push(next);
                        return Err(cycle);
                    }
                }
            }
        }
        Ok(order)
    }
}
