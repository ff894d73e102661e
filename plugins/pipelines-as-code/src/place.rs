//! In which place of the tenant a run goes: `target-namespace`, and `{{ target_namespace }}`.

use std::cell::OnceCell;

use crate::world::{Place, World};

/// The tenant's places, asked for once and only if something needs them.
pub(crate) struct Places<'a> {
    world: &'a dyn World,
    known: OnceCell<Result<Vec<Place>, String>>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(world: &'a dyn World) -> Self {
        Self {
            world,
            known: OnceCell::new(),
        }
    }

    fn all(&self) -> Result<&[Place], String> {
        let ask = || {
            let places = self.world.places();
            places.map_err(|error| format!("the places are not to be had: {}", error.describe()))
        };
        let known = self.known.get_or_init(ask).as_ref();
        known.map(Vec::as_slice).map_err(Clone::clone)
    }

    /// Whether any place takes events of this trust. Where it can't be told the host will.
    pub(crate) fn any_allowed(&self) -> bool {
        self.all()
            .map_or(true, |places| places.iter().any(|it| it.allowed))
    }

    /// The place of a namespace.
    ///
    /// # Errors
    /// Why a run may not go there.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Result<&Place, String> {
        let places = self.all()?;
        let mut of_it = places.iter().filter(|it| it.namespace == namespace);
        let Some(first) = of_it.next() else {
            let known: Vec<String> = places
                .iter()
                .map(|it| format!("`{}`", it.namespace))
                .collect();
            return Err(format!(
                "no place of this tenant has the namespace `{namespace}`: there are {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ));
        };
        if first.allowed {
            return Ok(first);
        }
        of_it.find(|it| it.allowed).ok_or_else(|| {
            format!(
                "place `{}` with the namespace `{namespace}` does not take events of this trust",
                first.name
            )
        })
    }

    /// The namespace of a run that names no place.
    ///
    /// # Errors
    /// Several fit, or none.
    pub(crate) fn namespace(&self) -> Result<String, String> {
        let mut allowed = self.all()?.iter().filter(|it| it.allowed);
        match (allowed.next(), allowed.next()) {
            (Some(one), None) => Ok(one.namespace.clone()),
            (None, _) => Err("no place takes events of this trust".to_owned()),
            (Some(_), Some(_)) => Err(
                "several places take events of this trust: choose one by `target-namespace`"
                    .to_owned(),
            ),
        }
    }
}
