//! Objects of S3: stored, fetched, deleted, and addresses that let a host do so without keys.

use std::time::Duration;

use hyper::body::Bytes;

use super::client::{Aws, Call};
use super::settings::Place;
use super::{Error, sign};

/// How long an object may take.
const LIMIT: Duration = Duration::from_secs(15 * 60);

impl Aws {
    /// Stores an object, in the place of what was there.
    ///
    /// # Errors
    /// [`Error`]; it is stored whole or not at all.
    pub async fn put_object(&self, place: &Place, content: impl Into<Bytes>) -> Result<(), Error> {
        let call = Call {
            body: content.into(),
            headers: vec![("content-type".to_owned(), "application/octet-stream".to_owned())],
            ..self.object("s3:PutObject", "PUT", place)
        };
        self.call(&call).await.map(drop)
    }

    /// An object; `None` where there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn get_object(&self, place: &Place) -> Result<Option<Bytes>, Error> {
        found(self.call(&self.object("s3:GetObject", "GET", place)).await)
    }

    /// Whether there is such an object.
    ///
    /// # Errors
    /// [`Error::Denied`] too where we may not list the bucket: AWS then does not tell what is not there.
    pub async fn has_object(&self, place: &Place) -> Result<bool, Error> {
        // An answer to HEAD has no body: its status is all there is.
        found(self.call(&self.object("s3:HeadObject", "HEAD", place)).await).map(|found| found.is_some())
    }

    /// Deletes an object, or finds it gone.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn delete_object(&self, place: &Place) -> Result<(), Error> {
        found(self.call(&self.object("s3:DeleteObject", "DELETE", place)).await).map(drop)
    }

    /// An address to fetch an object from, for so long.
    pub(super) async fn address_to_get(&self, place: &Place, lasts: Duration) -> Result<String, Error> {
        self.presigned(&self.object("s3:GetObject", "GET", place), lasts).await
    }

    /// An address to store an object at, for so long.
    pub(super) async fn address_to_put(&self, place: &Place, lasts: Duration) -> Result<String, Error> {
        self.presigned(&self.object("s3:PutObject", "PUT", place), lasts).await
    }

    fn object(&self, operation: &'static str, method: &'static str, place: &Place) -> Call {
        let endpoint = self.settings().endpoint("s3");
        let key = sign::encoded(&place.key, true);
        // A name with dots fits no certificate of AWS as a part of the host's name.
        let (endpoint, path) = match self.settings().is_elsewhere("s3") || place.bucket.contains('.') {
            true => (endpoint, format!("/{}/{key}", place.bucket)),
            false => (endpoint.replacen("://", &format!("://{}.", place.bucket), 1), format!("/{key}")),
        };
        Call {
            service: "s3",
            operation,
            method,
            endpoint,
            path,
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            repeatable: true,
            limit: LIMIT,
        }
    }
}

fn found(answer: Result<Bytes, Error>) -> Result<Option<Bytes>, Error> {
    match answer {
        Ok(body) => Ok(Some(body)),
        Err(Error::Refused { code, .. }) if matches!(code.as_str(), "NoSuchKey" | "404") => Ok(None),
        Err(error) => Err(error),
    }
}
