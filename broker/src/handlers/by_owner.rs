//! Parts of a request, gathered by the core that owns what they name: one mail goes to each.

use crate::shard::mail::Asks;
use crate::shard::{Pending, Shard};
use runtime::Instant;

/// Parts by owner core, each with its place in the answer.
pub struct ByOwner<Place, Part> {
    owners: Vec<(Vec<Place>, Vec<Part>)>,
}

impl<Place, Part> ByOwner<Place, Part> {
    pub fn new(cores: usize) -> ByOwner<Place, Part> {
        ByOwner {
            owners: (0..cores).map(|_| (Vec::new(), Vec::new())).collect(),
        }
    }

    pub fn add(&mut self, core: usize, place: Place, part: Part) {
        let (places, parts) = &mut self.owners[core];
        places.push(place);
        parts.push(part);
    }

    /// Owners that have anything to do.
    pub fn count(&self) -> usize {
        self.owners
            .iter()
            .filter(|(places, _)| !places.is_empty())
            .count()
    }

    /// Those owners, with their places and parts in the order in which they were added.
    pub fn into_owners(self) -> impl Iterator<Item = (usize, Vec<Place>, Vec<Part>)> {
        let owners = self.owners.into_iter().enumerate();
        owners
            .filter(|(_, (places, _))| !places.is_empty())
            .map(|(core, (places, parts))| (core, places, parts))
    }

    /// Asks all owners at once.
    pub fn begin<'a, Q: Asks>(
        self,
        shard: &'a Shard,
        question: impl Fn(Vec<Part>) -> Q,
    ) -> Vec<(Vec<Place>, Pending<'a, Q>)> {
        self.into_owners()
            .map(|(core, places, parts)| (places, shard.ask_later(core, question(parts))))
            .collect()
    }

    /// Asks all owners at once, and gives each part's answer with its place.
    pub async fn ask<Q, A>(
        self,
        shard: &Shard,
        question: impl Fn(Vec<Part>) -> Q,
    ) -> Vec<(Place, A)>
    where
        Q: Asks<Answer = Vec<A>>,
    {
        let mut outcomes = Vec::new();
        for (places, ask) in self.begin(shard, question) {
            outcomes.extend(places.into_iter().zip(ask.await));
        }
        outcomes
    }
}

/// What owners answer until `deadline`; the parts of those that do not are `late`.
pub async fn until<Place, Q, A: Clone>(
    shard: &Shard,
    deadline: Instant,
    pending: Vec<(Vec<Place>, Pending<'_, Q>)>,
    late: A,
) -> Vec<(Place, A)>
where
    Q: Asks<Answer = Vec<A>>,
{
    let mut outcomes = Vec::new();
    for (places, ask) in pending {
        let left = deadline - shard.core.now();
        match runtime::timeout(&shard.core, left, ask).await {
            Ok(answers) => outcomes.extend(places.into_iter().zip(answers)),
            Err(_) => outcomes.extend(places.into_iter().map(|place| (place, late.clone()))),
        }
    }
    outcomes
}
