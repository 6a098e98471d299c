//! VHDs of other makers and our own, judged by programs that have nothing to do with this one, by a model in memory, and
//! by crashes.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod makers;
#[cfg(test)]
mod model;
#[cfg(test)]
mod support;
#[cfg(test)]
mod witness;
