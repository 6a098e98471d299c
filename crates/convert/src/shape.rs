//! The two ways in which bytes move: what the plan decides, and what memory is shared out by.

use serde::Serialize;

/// How the bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Workers write in place, each where its bytes belong.
    Random,
    /// Workers encode, one thread appends in order.
    Ordered,
}
