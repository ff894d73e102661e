//! What the plugin asks the host. The plugin asks it by its imports; a test answers itself.

use penstock_sdk::LookupError;
use penstock_sdk::events::{MergeRequest, Run};

pub use penstock_sdk::imports::cluster_read::{Place, RunFilter};
pub use penstock_sdk::imports::gitlab_read::{Changes, Elsewhere, File, Rename, Source};

/// The host, as far as this plugin needs it.
pub trait World {
    /// The body as GitLab sent it, as JSON text; `null` where there was none.
    ///
    /// # Errors
    /// The plugin may not see it.
    fn payload(&self) -> Result<String, LookupError>;
    /// The part of the body at a pointer, as JSON text.
    ///
    /// # Errors
    /// The plugin may not see it.
    fn part(&self, pointer: &str) -> Result<Option<String>, LookupError>;
    /// The headers of the delivery, without credentials.
    ///
    /// # Errors
    /// The plugin may not see them.
    fn headers(&self) -> Result<Vec<(String, String)>, LookupError>;
    /// All files of a folder and below it.
    ///
    /// # Errors
    /// Why there are none.
    fn folder(&self, source: &Source, path: &str) -> Result<Vec<File>, LookupError>;
    /// Several files, an answer for each.
    ///
    /// # Errors
    /// Why none can be read.
    fn files(
        &self,
        source: &Source,
        paths: &[String],
    ) -> Result<Vec<Result<File, LookupError>>, LookupError>;
    /// The commit that a source stands for.
    ///
    /// # Errors
    /// Why it stands for none.
    fn resolve(&self, source: &Source) -> Result<String, LookupError>;
    /// The message of a commit.
    ///
    /// # Errors
    /// Why it is not to be had.
    fn message(&self, commit: &str) -> Result<String, LookupError>;
    /// The changed paths of the whole push or merge request.
    ///
    /// # Errors
    /// Why they are not to be had.
    fn changes(&self) -> Result<Changes, LookupError>;
    /// The open merge requests of a branch of the project.
    ///
    /// # Errors
    /// Why they are not to be had.
    fn open_merge_requests(&self, branch: &str) -> Result<Vec<MergeRequest>, LookupError>;
    /// A user's access level in a group; 0: not a member.
    ///
    /// # Errors
    /// Why it can't be told.
    fn group_access(&self, user: u64, group: &str) -> Result<u32, LookupError>;
    /// The places of the tenant.
    ///
    /// # Errors
    /// The plugin may not see them.
    fn places(&self) -> Result<Vec<Place>, LookupError>;
    /// This plugin's runs of the project, newest first.
    ///
    /// # Errors
    /// Why they are not to be had.
    fn runs(&self, filter: &RunFilter, limit: u32) -> Result<Vec<Run>, LookupError>;
    /// A public file.
    ///
    /// # Errors
    /// Why it is not to be had.
    fn fetch(&self, url: &str) -> Result<Vec<u8>, LookupError>;
    /// A value of the plugin's own store for this project.
    ///
    /// # Errors
    /// The plugin has no store for events of this trust.
    fn recall(&self, key: &str) -> Result<Option<Vec<u8>>, LookupError>;
    /// Keeps a value for some days.
    ///
    /// # Errors
    /// The plugin has no store for events of this trust.
    fn keep(&self, key: &str, value: Vec<u8>, days: u32) -> Result<(), LookupError>;
}
