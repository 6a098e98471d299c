//! The library people depend on.
