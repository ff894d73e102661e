//! A rotation of a random secret that nobody issues: made by the host, held as a handle.

use penstock_sdk::PluginError;
use penstock_sdk::rotation::secrets::{Characters, Policy, Shape, generate};
use penstock_sdk::rotation::{
    Context, Description, PastCall, Recovered, RetireReason, Rotation, StepError, Version,
};

struct Rotate;

impl Rotation for Rotate {
    fn describe(_context: Context) -> Result<Description, PluginError> {
        Ok(Description {
            side_by_side: true,
            recoverable: true,
            activates: false,
        })
    }

    fn mint(_context: Context) -> Result<Version, StepError> {
        let policy = Policy {
            prefix: String::new(),
            shape: Shape::Characters(Characters {
                length: 32,
                alphabet: None,
                require: Vec::new(),
            }),
        };
        let secret = generate("value", &policy)
            .map_err(|error| StepError::Permanent(format!("no secret: {error:?}")))?;
        Ok(Version {
            parts: vec![("value".to_owned(), secret.id())],
            metadata: Vec::new(),
            expires_at: None,
        })
    }

    fn verify(_context: Context, _version: Version) -> Result<(), StepError> {
        Ok(())
    }

    fn retire(_context: Context, _version: Version, _why: RetireReason) -> Result<(), StepError> {
        Ok(())
    }

    fn recover(_context: Context, _calls: Vec<PastCall>) -> Result<Recovered, StepError> {
        Ok(Recovered::NothingHappened)
    }
}

penstock_sdk::export_rotation!(Rotate);
