//! New VMDKs, judged by programs that have nothing to do with this one: qemu-img, libvmdk's vmdkinfo, and OpenStack's
//! format inspector where it is installed. What no witness checks (bytes behind the end of a stream, the exact length of
//! grains) is checked by a reader that is written here from the rules alone.

#[cfg(test)]
mod existing;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod random;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod strict;
#[cfg(test)]
mod witness;
