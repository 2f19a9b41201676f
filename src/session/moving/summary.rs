//! PURE: what came of an import.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::visitor::VisitorKey;

/// What came of the records of an import, so far or in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Visitors that the store did not know.
    pub added: u64,
    /// Visitors whose older record gave way.
    pub replaced: u64,
    /// Visitors whose record is as new as the imported one, and was sealed anew because an older key had sealed it.
    pub resealed: u64,
    /// Visitors whose record is as new as the imported one, or newer: left alone.
    pub kept: u64,
    /// Records that have expired since they were exported: not imported.
    pub expired: u64,
    /// Records that cannot be read: not imported.
    pub unreadable: u64,
    /// Why they cannot be read.
    pub problems: Vec<Problem>,
}

/// Why some records cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is the matter, and how to mend it.
    pub problem: String,
    /// How many records it concerns.
    pub records: u64,
    /// One of them, as the logs name visitors.
    pub visitor: String,
}

/// What became of one record.
#[derive(Debug)]
pub(super) enum Merged {
    Added,
    Replaced,
    Resealed,
    Kept,
    Expired,
    Unreadable(VisitorKey, String),
}

/// More reasons than that are counted together: a file may not decide how much memory its problems take.
const MOST_PROBLEMS: usize = 16;

impl Summary {
    /// All records.
    pub fn records(&self) -> u64 {
        self.added + self.replaced + self.resealed + self.kept + self.expired + self.unreadable
    }

    pub(super) fn count(&mut self, merged: Merged) {
        let counter = match merged {
            Merged::Added => &mut self.added,
            Merged::Replaced => &mut self.replaced,
            Merged::Resealed => &mut self.resealed,
            Merged::Kept => &mut self.kept,
            Merged::Expired => &mut self.expired,
            Merged::Unreadable(visitor, problem) => {
                self.note(visitor, problem);
                &mut self.unreadable
            }
        };
        *counter += 1;
    }

    fn note(&mut self, visitor: VisitorKey, problem: String) {
        if let Some(known) = self
            .problems
            .iter_mut()
            .find(|known| known.problem == problem)
        {
            known.records += 1;
        } else if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(Problem {
                problem,
                records: 1,
                visitor: visitor.to_string(),
            });
        }
    }
}

/// One line for what was done, and one for each problem.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            added,
            replaced,
            resealed,
            kept,
            expired,
            unreadable,
            problems,
        } = self;
        write!(
            f,
            "{} records: {added} added, {replaced} replaced by newer ones, {kept} left alone, {resealed} sealed anew, {expired} expired, \
             {unreadable} unreadable",
            self.records()
        )?;
        for problem in problems {
            let Problem {
                problem,
                records,
                visitor,
            } = problem;
            write!(f, "\n  {records} (visitor {visitor} and others): {problem}")?;
        }
        Ok(())
    }
}
