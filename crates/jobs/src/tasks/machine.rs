//! Jobs on machines: export, import, validate.

use std::sync::Arc;

use serde_json::json;
use transload::appliance::ova::ManifestAlgorithm;
use transload::appliance::profile::IMPORTERS;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::Progress;
use transload::export::{
    ExportPlan, ExportSettings, ExportTarget, MachineProgress, MachineSource, Nvram, SourceSettings,
};
use transload::image::ReferenceGate;
use transload::import::{ImportSettings, ImportTarget};
use transload::validate::{Soundness, ValidateSettings};

use super::source::known_format;
use super::target::Place;
use super::{Context, Made, Produced, details};
use crate::model::{ExportJob, Hypervisor, ImportJob, JobResult, ManifestName, NvramChoice, ValidateJob};

pub(super) fn export(context: &Context, job: &ExportJob) -> Result<Produced> {
    let ova = match job.target.file_name().rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("ova") => true,
        Some("ovf") => false,
        _ => {
            let text = format!("target: {} ends neither in .ova nor in .ovf", job.target.shown());
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
    };
    let settings = export_settings(context, job)?;
    let source = MachineSource::open(
        &context.file(&job.source)?,
        &SourceSettings {
            gate: ReferenceGate::SameDirectory,
            force: job.force,
            system: job.system.clone(),
            cache_bytes: context.cache_bytes(),
        },
    )?;
    let place = context.place(&job.target, job.force)?;
    let target = match &place {
        Place::Staged(staging) if ova => ExportTarget::Ova(staging.path()),
        Place::Staged(staging) => ExportTarget::Folder(staging.path()),
        Place::Uploaded(upload) if ova => ExportTarget::Pipe(Box::new(upload.writer())),
        Place::Uploaded(_) => {
            return Err(Error::new(ErrorKind::Unsupported, "target: a package at an address is one file, an .ova"));
        }
    };
    let plan = ExportPlan::new(source, &target, &settings)?;
    let mut warnings = plan.warnings.clone();
    let report = plan.run(target, &settings)?;
    warnings.extend(report.warnings.iter().filter(|text| !warnings.contains(text)).cloned().collect::<Vec<_>>());
    Ok(Produced {
        result: JobResult {
            output: Some(job.target.shown()),
            format: Some(if ova { "ova" } else { "ovf" }.to_owned()),
            written_bytes: report.size,
            capacity_bytes: report.files.iter().filter_map(|file| file.virtual_size).sum(),
            details: details(&report, &[("output", json!(job.target.shown()))])?,
            ..JobResult::default()
        },
        warnings,
        made: place.made(),
        force: job.force,
    })
}

fn export_settings(context: &Context, job: &ExportJob) -> Result<ExportSettings> {
    if !job.hardware_version.is_none_or(|version| (4..=99).contains(&version)) {
        return Err(Error::new(ErrorKind::InvalidInput, "hardwareVersion: must be 4 to 99"));
    }
    Ok(ExportSettings {
        level: job.level.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
        manifest: match job.manifest {
            ManifestName::Sha256 => Some(ManifestAlgorithm::Sha256),
            ManifestName::Sha1 => Some(ManifestAlgorithm::Sha1),
            ManifestName::Sha512 => Some(ManifestAlgorithm::Sha512),
            ManifestName::None => None,
        },
        hardware_version: job.hardware_version,
        nvram: match job.nvram {
            NvramChoice::Auto => Nvram::Auto,
            NvramChoice::Include => Nvram::Include,
            NvramChoice::Skip => Nvram::Skip,
        },
        threads: Some(context.threads(job.run.threads)),
        memory: context.memory,
        force: job.force,
        cancel: context.cancel.clone(),
        progress: Some(Arc::clone(&context.meter) as Arc<dyn MachineProgress>),
        ..ExportSettings::default()
    })
}

pub(super) fn import(context: &Context, job: &ImportJob) -> Result<Produced> {
    let target = match job.to {
        Hypervisor::Libvirt => ImportTarget::Libvirt,
        Hypervisor::Proxmox => ImportTarget::Proxmox,
        Hypervisor::Vmx => ImportTarget::Vmx,
        Hypervisor::Hyperv => ImportTarget::HyperV,
        Hypervisor::Virtualbox => ImportTarget::VirtualBox,
        Hypervisor::Raw => ImportTarget::Raw,
    };
    let source = context.package(&job.source)?;
    let staging = context.stage(&job.target, job.force)?;
    let settings = ImportSettings {
        format: job.format.as_deref().map(|name| known_format("format", name)).transpose()?,
        system: job.system.clone(),
        described_folder: Some(staging.target().to_owned()),
        ignore_manifest: job.ignore_manifest,
        threads: Some(context.threads(job.run.threads)),
        memory: context.memory,
        cancel: context.cancel.clone(),
        progress: Some(Arc::clone(&context.meter) as Arc<dyn MachineProgress>),
        ..ImportSettings::new(target)
    };
    let mut report = transload::import::import(source, &staging.path(), &settings)?;
    report.folder = staging.target().display().to_string();
    Ok(Produced {
        result: JobResult {
            output: Some(job.target.shown()),
            format: settings.format.map(|format| format.name.to_owned()),
            written_bytes: context.meter.read().written_bytes,
            capacity_bytes: report.files.iter().filter_map(|file| file.virtual_size).sum(),
            details: details(
                &report,
                &[("package", json!(job.source.shown())), ("folder", json!(job.target.shown()))],
            )?,
            ..JobResult::default()
        },
        warnings: report.warnings,
        made: Made::Staged(staging),
        force: job.force,
    })
}

pub(super) fn validate(context: &Context, job: &ValidateJob) -> Result<Produced> {
    if let Some(unknown) = job.importers.iter().find(|name| !IMPORTERS.iter().any(|importer| importer.id == **name)) {
        let known: Vec<_> = IMPORTERS.iter().map(|importer| importer.id).collect();
        let error = Error::new(ErrorKind::InvalidInput, format!("for: {unknown:?} is no importer"));
        return Err(error.with_remedy(format!("known are {}", known.join(", "))));
    }
    let settings = ValidateSettings {
        threads: Some(context.threads(job.run.threads)),
        cancel: context.cancel.clone(),
        progress: Some(Arc::clone(&context.meter) as Arc<dyn Progress>),
    };
    let mut found = transload::validate::validate(&context.file(&job.source)?, &settings)?;
    if !job.importers.is_empty() {
        found.verdicts.retain(|verdict| job.importers.iter().any(|wanted| wanted == verdict.importer));
    }
    Ok(Produced {
        result: JobResult {
            format: Some("ova".to_owned()),
            sound: Some(found.soundness == Soundness::Sound),
            details: details(&found, &[("file", json!(job.source.shown()))])?,
            ..JobResult::default()
        },
        warnings: Vec::new(),
        made: Made::Nothing,
        force: false,
    })
}
