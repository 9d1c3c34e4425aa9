//! Sets of global transaction identifiers (MySQL manual, 19.1.3.1 "GTID Format and Storage").

use std::{collections::BTreeMap, fmt};

use mysql_async::{GnoInterval, Sid};
use uuid::Uuid;

use crate::change::Gtid;

/// Which transactions have been seen: by server, intervals from a first to a last number, in order and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GtidSet(BTreeMap<u128, Vec<(u64, u64)>>);

impl GtidSet {
    /// Reads what MySQL prints.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong =
                || format!("`{part}` is no set of transaction identifiers (those with a tag aren't known here)");
            let (server, intervals) = part.split_once(':').ok_or_else(wrong)?;
            let server = Uuid::parse_str(server).map_err(|_| wrong())?.as_u128();
            for interval in intervals.split(':') {
                let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
                let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
                set.insert_all(server, first, last);
            }
        }
        Ok(set)
    }

    /// Adds a transaction.
    pub(super) fn insert(&mut self, gtid: Gtid) {
        self.insert_all(gtid.server, gtid.number, gtid.number);
    }

    fn insert_all(&mut self, server: u128, first: u64, last: u64) {
        let intervals = self.0.entry(server).or_default();
        // Nearly always the next one.
        if let Some((_, end)) = intervals.last_mut().filter(|(start, end)| *start <= first && first <= *end + 1) {
            *end = last.max(*end);
            return;
        }
        intervals.push((first, last));
        intervals.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals.drain(..) {
            match merged.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        *intervals = merged;
    }

    /// The set as the protocol sends it, whose intervals end before their second number.
    pub(super) fn sids(&self) -> Vec<Sid<'static>> {
        let sid = |(server, intervals): (&u128, &Vec<(u64, u64)>)| {
            let sid = Sid::new(server.to_be_bytes());
            intervals.iter().fold(sid, |sid, (first, last)| sid.with_interval(GnoInterval::new(*first, last + 1)))
        };
        self.0.iter().map(sid).collect()
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (server, intervals)) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at > 0 { "," } else { "" }, Uuid::from_u128(*server).hyphenated())?;
            for (first, last) in intervals {
                if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn sets_are_printed_as_they_are_read() -> Result<(), String> {
        for text in
            [String::new(), format!("{A}:1-3:11:47-49"), format!("{A}:7,4e11fa47-71ca-11e1-9e33-c80aa9429562:1-2")]
        {
            assert_eq!(GtidSet::parse(&text)?.to_string(), text);
        }
        for wrong in ["x:1", A, &format!("{A}:tag:1")] {
            assert!(GtidSet::parse(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn intervals_that_touch_become_one() -> Result<(), String> {
        let mut set = GtidSet::parse(&format!("{A}:1-3:5"))?;
        for (number, text) in [(7, "1-3:5:7"), (4, "1-5:7"), (6, "1-7"), (7, "1-7"), (8, "1-8")] {
            set.insert(format!("{A}:{number}").parse()?);
            assert_eq!(set.to_string(), format!("{A}:{text}"));
        }
        Ok(())
    }
}
