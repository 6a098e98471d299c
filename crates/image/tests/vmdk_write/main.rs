//! New VMDKs, judged by programs that have nothing to do with this one: qemu-img, libvmdk's vmdkinfo, and OpenStack's
//! format inspector where it is installed. What no witness checks (bytes behind the end of a stream, the exact length of
//! grains) is checked by a reader that is written here from the rules alone.

mod existing;
mod folder;
mod random;
mod stream;
mod strict;
mod witness;
