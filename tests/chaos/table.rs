//! The table: a line for each phase, and a total.

use std::fmt::Write;
use std::time::Duration;

use crate::visitors::Tally;

/// One line.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub title: String,
    pub seconds: u64,
    pub visitors: u64,
    pub tally: Tally,
    pub profiles: u64,
    pub nobodys: u64,
    pub lost_answers: u64,
    pub changes: u64,
    pub refreshes: u64,
    pub lost_refreshes: u64,
    pub expired: u64,
}

const HEAD: [&str; 12] = [
    "what goes wrong",
    "s",
    "visitors",
    "requests",
    "anonymous, by reason",
    "longest answer",
    "profiles made",
    "of them nobody's",
    "authorize and exchange answers lost",
    "profile changes",
    "refreshes (answers lost)",
    "expired tokens sent",
];

impl Row {
    /// Adds a phase to the total.
    pub fn add(&mut self, other: &Row) {
        self.seconds += other.seconds;
        self.profiles += other.profiles;
        self.nobodys += other.nobodys;
        self.lost_answers += other.lost_answers;
        self.changes += other.changes;
        self.refreshes += other.refreshes;
        self.lost_refreshes += other.lost_refreshes;
        self.expired += other.expired;
        let (tally, more) = (&mut self.tally, &other.tally);
        tally.requests += more.requests;
        tally.unanswered += more.unanswered;
        tally.errors += more.errors;
        tally.longest = tally.longest.max(more.longest);
        for (reason, count) in &more.anonymous {
            *tally.anonymous.entry(reason.clone()).or_default() += count;
        }
    }

    fn cells(&self) -> [String; 12] {
        let tally = &self.tally;
        let mut missed: Vec<String> = tally
            .anonymous
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        if tally.unanswered > 0 {
            missed.push(format!("no answer {}", tally.unanswered));
        }
        if tally.errors > 0 {
            missed.push(format!("5xx {}", tally.errors));
        }
        let refreshes = match self.lost_refreshes {
            0 => self.refreshes.to_string(),
            lost => format!("{} ({lost})", self.refreshes),
        };
        [
            self.title.clone(),
            self.seconds.to_string(),
            self.visitors.to_string(),
            tally.requests.to_string(),
            if missed.is_empty() {
                "0".to_owned()
            } else {
                missed.join(", ")
            },
            short(tally.longest),
            self.profiles.to_string(),
            self.nobodys.to_string(),
            self.lost_answers.to_string(),
            self.changes.to_string(),
            refreshes,
            self.expired.to_string(),
        ]
    }
}

fn short(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The table as text, or as Markdown.
pub fn render(rows: &[Row], markdown: bool) -> String {
    let lines: Vec<[String; 12]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(rows.iter().map(Row::cells))
        .collect();
    let mut text = String::new();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for (number, line) in lines.iter().enumerate() {
        if markdown {
            let _ = writeln!(text, "| {} |", line.join(" | "));
            if number == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(HEAD.len()));
            }
            continue;
        }
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}
