//! The files of a new image, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transload_block::{Error, ErrorKind, Memory, Result, Storage};
use transload_image::TargetFiles;

/// A folder in memory that a format makes its files in. `Memory` unless the test put another storage in the place.
#[derive(Debug)]
pub struct MemoryTarget {
    name: String,
    files: Mutex<BTreeMap<String, File>>,
}

#[derive(Clone, Debug)]
struct File {
    storage: Arc<dyn Storage>,
    /// The same, where the test did not bring it.
    memory: Option<Arc<Memory>>,
}

impl File {
    fn new() -> Self {
        let memory = Arc::new(Memory::default());
        Self { storage: Arc::clone(&memory) as Arc<dyn Storage>, memory: Some(memory) }
    }
}

impl MemoryTarget {
    /// A target whose primary file is called `name`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), files: Mutex::default() }
    }

    /// Puts `storage` in the place of the file called `name`, to have it misbehave or to look at it later.
    #[must_use]
    pub fn with_storage(self, name: &str, storage: Arc<dyn Storage>) -> Self {
        self.files().insert(name.to_owned(), File { storage, memory: None });
        self
    }

    /// The names of the files that exist, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.files().keys().cloned().collect()
    }

    /// The file called `name`, unless a test brought its own.
    #[must_use]
    pub fn memory(&self, name: &str) -> Option<Arc<Memory>> {
        self.files().get(name)?.memory.clone()
    }

    /// The file called `name`.
    #[must_use]
    pub fn storage(&self, name: &str) -> Option<Arc<dyn Storage>> {
        self.files().get(name).map(|file| Arc::clone(&file.storage))
    }

    /// Writes all files into `folder`, sparse, for a witness to look at.
    ///
    /// # Panics
    /// When the operating system refuses.
    pub fn save(&self, folder: &std::path::Path) {
        for (name, file) in &*self.files() {
            crate::disks::save(&*file.storage, &folder.join(name));
        }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TargetFiles for MemoryTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn primary(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::clone(&self.files().entry(self.name.clone()).or_insert_with(File::new).storage))
    }

    fn sibling(&self, name: &str) -> Result<Arc<dyn Storage>> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
            return Err(Error::new(ErrorKind::Denied, format!("{name:?} is no name of a file in the same folder")));
        }
        let mut files = self.files();
        match files.get(name) {
            // Brought by the test for this very call.
            Some(file) if file.memory.is_none() => Ok(Arc::clone(&file.storage)),
            Some(_) => Err(Error::new(ErrorKind::Denied, format!("{name} exists"))),
            None if name == self.name => Err(Error::new(ErrorKind::Denied, format!("{name} is the primary file"))),
            None => Ok(Arc::clone(&files.entry(name.to_owned()).or_insert_with(File::new).storage)),
        }
    }
}
