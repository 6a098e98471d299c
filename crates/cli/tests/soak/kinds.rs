//! Every kind of image that can be written at random places, from the table of formats.

use transload::image::{FORMATS, Format, OptionValues};

/// A format and the options that make a kind of it.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) format: &'static Format,
    pub(crate) options: String,
}

impl Kind {
    pub(crate) fn values(&self) -> OptionValues {
        OptionValues::parse(self.format.create_options, [self.options.as_str()]).unwrap()
    }

    /// What qemu-img calls the format, where it has it and keeps the size: its VHDs are as long as their geometry.
    pub(crate) fn qemu_name(&self) -> Option<&'static str> {
        ["raw", "qcow2", "vmdk", "vhdx", "vdi"].into_iter().find(|name| *name == self.format.name)
    }
}

/// All of them; what hangs from a parent is no image by itself.
pub(crate) fn written_at_random() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for format in FORMATS.iter().copied().filter(|format| format.create.is_some()) {
        let has_subformat = format.create_options.iter().any(|option| option.name == "subformat");
        for variant in format.variants.iter().filter(|variant| variant.write && variant.name != "differencing") {
            let options = if has_subformat { format!("subformat={}", variant.name) } else { String::new() };
            if kinds.iter().all(|known: &Kind| known.format != format || known.options != options) {
                kinds.push(Kind { format, options });
            }
        }
    }
    let qcow2 = Format::by_name("qcow2").unwrap();
    for options in [
        "cluster_size=512",
        "cluster_size=4k,compat=v2",
        "cluster_size=16k,extended_l2=on",
        "cluster_size=512,refcount_bits=1",
        "cluster_size=1k,refcount_bits=64,lazy_refcounts=on",
        "cluster_size=2k,preallocation=metadata",
    ] {
        kinds.push(Kind { format: qcow2, options: options.to_owned() });
    }
    kinds.push(Kind {
        format: Format::by_name("vmdk").unwrap(),
        options: "subformat=monolithicSparse,zeroed_grain=on".to_owned(),
    });
    kinds
}
