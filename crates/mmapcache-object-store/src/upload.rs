//! An upload in parts, after which the object has another state.
//!
//! May call `change` and `reading`.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use crate::change::Change;
use crate::reading::Reading;

#[derive(Debug)]
pub(crate) struct Upload {
    upload: Box<dyn MultipartUpload>,
    reading: Arc<Reading>,
    location: Path,
}

impl Upload {
    pub(crate) fn new(
        upload: Box<dyn MultipartUpload>,
        reading: Arc<Reading>,
        location: Path,
    ) -> Self {
        Self {
            upload,
            reading,
            location,
        }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let _change = Change::new(&self.reading, [&self.location]);
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
