//! Descriptors of many makers are read; what is written is what the schema and other readers want.

mod corpus;
mod editing;
mod reading;
mod writing;
