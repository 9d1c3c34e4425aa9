//! What the command line selects.

use crate::Setup;

/// A number of rows, and the rate at which they are offered in the open loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tier {
    /// The name on the command line and in the results.
    pub(crate) name: &'static str,
    /// How many rows.
    pub(crate) rows: u32,
    /// How many rows a second the open loop offers.
    pub(crate) offered_per_s: u32,
}

const TIERS: [Tier; 3] = [
    Tier { name: "1k", rows: 1_000, offered_per_s: 1_000 },
    Tier { name: "10k", rows: 10_000, offered_per_s: 1_000 },
    Tier { name: "100k", rows: 100_000, offered_per_s: 2_000 },
];

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Bursts and the open loop.
    Lag,
    /// A backlog against the database's own program.
    Drain,
    /// Transactions per second against none.
    Price,
}

const PARTS: [(&str, Part); 3] = [("lag", Part::Lag), ("drain", Part::Drain), ("price", Part::Price)];

/// What is to be measured.
pub(crate) struct Choice {
    pub(crate) parts: Vec<Part>,
    pub(crate) tiers: Vec<Tier>,
    pub(crate) setups: Vec<Setup>,
}

impl Choice {
    /// Reads words, each the name of a part, a tier or a method. Of what no word names, all is chosen; but tiers are those
    /// of the part `lag`, so that a tier alone chooses that part.
    ///
    /// # Errors
    /// A word is none of them: says which there are.
    pub(crate) fn read(words: &[String], setups: &[Setup]) -> Result<Self, String> {
        let is_named = |name: &str| words.iter().any(|word| word == name);
        let is_known = |word: &&String| {
            PARTS.iter().any(|(name, _)| word == name)
                || TIERS.iter().any(|tier| *word == tier.name)
                || setups.iter().any(|setup| *word == setup.method.name())
        };
        if let Some(unknown) = words.iter().find(|word| !is_known(word)) {
            let tiers = TIERS.map(|tier| tier.name).join(", ");
            let parts = PARTS.map(|(name, _)| name).join(", ");
            let mut methods: Vec<_> = setups.iter().map(|setup| setup.method.name()).collect();
            methods.dedup();
            return Err(format!(
                "no such part, tier or method: {unknown}\n  parts: {parts}\n  tiers: {tiers}\n  methods: {}",
                methods.join(", ")
            ));
        }
        let tiers = named(TIERS, |tier| is_named(tier.name));
        let parts = match named(PARTS, |(name, _)| is_named(name)) {
            parts if parts.len() == PARTS.len() && tiers.len() < TIERS.len() => vec![Part::Lag],
            parts => parts.into_iter().map(|(_, part)| part).collect(),
        };
        Ok(Self { parts, tiers, setups: named(setups.iter().copied(), |setup| is_named(setup.method.name())) })
    }
}

/// Those that are named, or all if none is.
fn named<T: Copy>(all: impl IntoIterator<Item = T>, is_named: impl Fn(&T) -> bool) -> Vec<T> {
    let all: Vec<T> = all.into_iter().collect();
    let some: Vec<T> = all.iter().copied().filter(is_named).collect();
    if some.is_empty() { all } else { some }
}
