//! Parts of a request, gathered by the core that owns what they name: one mail goes to each.

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
}
