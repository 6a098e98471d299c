//! A stack of layers as one disk.

use std::sync::Arc;

use crate::BlockRead;

/// Layers on top of each other: a hole of one shows the one below.
#[derive(Debug)]
pub struct Chain {
    layers: Vec<Arc<dyn BlockRead>>,
}

impl Chain {
    /// A chain for reading of `layers`, the top one first. The size is the top layer's; a lower layer that is shorter
    /// ends in a hole.
    #[must_use]
    pub fn new(layers: Vec<Arc<dyn BlockRead>>) -> Self {
        Self { layers }
    }

    /// The layers, the top one first.
    #[must_use]
    pub fn layers(&self) -> &[Arc<dyn BlockRead>] {
        &self.layers
    }
}
