//! Cylinders, heads and sectors, and who means them when asked for a disk's size.
//!
//! Specification, appendix "CHS calculation". A VHD has its size twice: as `current_size`, and as a geometry, which is
//! rounded and ends at 127 GiB. Virtual PC and QEMU show a guest the geometry's product, everybody else `current_size`.

use super::layout::{Footer, SECTOR};

/// The most sectors that a geometry can count: 65535 cylinders, 16 heads, 255 sectors. It stands for "too large to say".
pub(super) const SECTORS_MAX: u64 = 65535 * 16 * 255;

/// A disk's geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    pub(super) heads: u8,
    pub(super) sectors_per_track: u8,
}

impl Geometry {
    /// The geometry of a disk of `size` bytes by the specification's algorithm: the largest one of its shape that does not
    /// exceed the disk.
    pub(super) fn of_size(size: u64) -> Self {
        let sectors = (size / SECTOR).min(SECTORS_MAX);
        let (track, heads, tracks);
        if sectors >= 65536 * 16 * 63 {
            (track, heads) = (255, 16);
            tracks = sectors / track;
        } else {
            let few = sectors / 17;
            let wanted = few.div_ceil(1024).max(4);
            if few < wanted * 1024 && wanted <= 16 {
                (track, heads, tracks) = (17, wanted, few);
            } else if sectors / 31 < 16 * 1024 {
                (track, heads, tracks) = (31, 16, sectors / 31);
            } else {
                (track, heads, tracks) = (63, 16, sectors / 63);
            }
        }
        let narrow = |value: u64| u8::try_from(value).expect("at most 255 sectors and 16 heads");
        let cylinders = u16::try_from(tracks / heads).expect("sectors were bounded for this");
        Self { cylinders, heads: narrow(heads), sectors_per_track: narrow(track) }
    }

    /// What a footer says.
    pub(super) fn of_footer(footer: &Footer) -> Self {
        let Footer { heads, sectors_per_track, .. } = *footer;
        Self { cylinders: footer.cylinders.get(), heads, sectors_per_track }
    }

    /// The sectors it counts.
    pub(super) fn sectors(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors_per_track)
    }
}

/// What a disk's size was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeSource {
    CurrentSize,
    Geometry,
}

/// The virtual size that the maker of an image shows its guests, in bytes, and where that stands.
///
/// Geometry counts in images by Virtual PC (`vpc `) and by QEMU without `force_size` (`qemu`). Where it is the largest
/// there is, it means that the disk is larger; where it is nothing, it means nothing.
pub(super) fn virtual_size(footer: &Footer) -> (u64, SizeSource) {
    let counted = Geometry::of_footer(footer).sectors();
    let by_geometry = matches!(&footer.creator_application, b"vpc " | b"qemu");
    if by_geometry && counted > 0 && counted < SECTORS_MAX {
        return (counted * SECTOR, SizeSource::Geometry);
    }
    (footer.current_size.get(), SizeSource::CurrentSize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that Windows, Azure and QEMU wrote into real images and documents.
    #[test]
    fn geometries_are_those_of_others() {
        for (size, geometry) in [
            (4 << 20, (120, 4, 17)),
            (34_604_544, (993, 4, 17)),
            (136_365_211_648, (65278, 16, 255)),
            (2040 << 30, (65535, 16, 255)),
            (0, (0, 4, 17)),
            (SECTORS_MAX * SECTOR, (65535, 16, 255)),
            (1 << 30, (2080, 16, 63)),
        ] {
            let Geometry { cylinders, heads, sectors_per_track } = Geometry::of_size(size);
            assert_eq!((cylinders, heads, sectors_per_track), geometry, "{size}");
        }
    }

    #[test]
    fn a_geometry_never_exceeds_its_disk_and_never_overflows() {
        let edges = [17_u64 * 4 * 1024, 17 * 16 * 1024, 31 * 16 * 1024, 63 * 16 * 1024, 65536 * 16 * 63, SECTORS_MAX];
        for edge in edges {
            for sectors in edge.saturating_sub(2000)..edge + 2000 {
                let geometry = Geometry::of_size(sectors * SECTOR);
                assert!(geometry.sectors() <= sectors, "{sectors}: {geometry:?}");
            }
        }
        assert!(Geometry::of_size(u64::MAX).sectors() == SECTORS_MAX);
    }
}
