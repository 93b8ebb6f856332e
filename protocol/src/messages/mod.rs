//! Kafka's messages, one file for each family of apis.
//!
//! Each file describes requests and answers in the language of `codec/describe`, in all versions of
//! Apache Kafka 4.4. Names of structs and fields are Kafka's, in Rust's spelling; where Kafka uses
//! one name for two things, the head of the struct says what Kafka calls it. Which versions exist is
//! said in [`crate::api`], once.
//!
//! A nullable string is null by default; a nullable array is empty, since null mostly means "all".

mod api_versions;
mod cluster;
mod configs;
mod fetch;
mod group_admin;
mod groups;
mod header;
mod leaders;
mod list_offsets;
mod metadata;
mod offsets;
mod produce;
mod producer_ids;
mod topics;

pub use api_versions::*;
pub use cluster::*;
pub use configs::*;
pub use fetch::*;
pub use group_admin::*;
pub use groups::*;
pub use header::*;
pub use leaders::*;
pub use list_offsets::*;
pub use metadata::*;
pub use offsets::*;
pub use produce::*;
pub use producer_ids::*;
pub use topics::*;
