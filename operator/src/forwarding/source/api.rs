//! Segment's Public API, as far as sources go (facts of Segment, sections 2 and 7): `POST /sources`, `GET /sources`, and
//! `GET` and `DELETE /sources/{id}`.

use super::answer::{Answer, Failure, One, Page, Source, is_id, presentable};
use super::connect;
use audittrail_crds::document::Sensitive;
use ipnet::IpNet;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::json;

/// The catalogue's id of the HTTP API source (facts of Segment, section 7).
const HTTP_API_SOURCE: &str = "iUM16Md8P2";

/// The version of the Public API that is spoken here.
const MEDIA_TYPE: &str = "application/vnd.segment.v1+json";

/// Sources of one page. The API allows 1000; a page of them would be some megabytes.
const PAGE_SOURCES: usize = 200;

/// Pages that are read. With [`PAGE_SOURCES`] each, no workspace has as many.
const PAGES_MAX: usize = 50;

/// Largest answer that is read, in bytes: 20 KB a source of a page.
const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The Public API with one token.
pub struct PublicApi {
    client: Client,
    base: Url,
    token: Sensitive,
}

impl PublicApi {
    /// The API at the base URL `endpoint`, which is one of `authorities` (PEM), or of the public ones. Refuses addresses as
    /// a source's are, but for networks that are `allowed`.
    pub fn new(
        endpoint: &str,
        token: Sensitive,
        authorities: Option<&str>,
        allowed: &[IpNet],
    ) -> Result<Self, Failure> {
        let base: Url = format!("{}/", endpoint.trim_end_matches('/'))
            .parse()
            .map_err(|_| Failure::refused("source.httpApi.create.apiEndpoint is not a URL"))?;
        Ok(Self { client: connect::client(&base, authorities, allowed)?, base, token })
    }

    /// The source with this slug: found, by its id where it is known, or else made.
    pub async fn obtain(&self, known: Option<&str>, slug: &str) -> Result<Source, Failure> {
        if let Some(id) = known
            && let Some(source) = self.get(id).await?
        {
            return Ok(source);
        }
        if let Some(source) = self.find(slug).await? {
            return Ok(source);
        }
        match self.create(slug).await {
            // Made by a request whose answer was lost, and not listed a moment ago.
            Err(failure) if failure.may_mean_taken() => self.find(slug).await?.ok_or(failure),
            made => made,
        }
    }

    /// Deletes the source with this slug: by its id where it is known and right, or else as it is found. One that is gone is
    /// no failure.
    pub async fn remove(&self, known: Option<&str>, slug: &str) -> Result<(), Failure> {
        if let Some(id) = known
            && self.delete(id).await?
        {
            return Ok(());
        }
        if let Some(source) = self.find(slug).await? {
            self.delete(&source.id).await?;
        }
        Ok(())
    }

    /// Whether there was a source with this id to delete.
    async fn delete(&self, id: &str) -> Result<bool, Failure> {
        if !is_id(id) {
            return Ok(false);
        }
        match self.send(self.request(Method::DELETE, self.one(id))).await?.success(&self.token, Timestamp::now()) {
            Ok(()) => Ok(true),
            Err(failure) if failure.is_not_found() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn get(&self, id: &str) -> Result<Option<Source>, Failure> {
        if !is_id(id) {
            return Ok(None);
        }
        match self.data::<One>(self.request(Method::GET, self.one(id))).await {
            Ok(one) => checked(one.source).map(Some),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Looks through all pages.
    async fn find(&self, slug: &str) -> Result<Option<Source>, Failure> {
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = self.page(cursor.as_deref()).await?;
            if let Some(source) = page.sources.into_iter().find(|source| source.slug == slug) {
                return checked(source).map(Some);
            }
            cursor = page.pagination.next.filter(|next| !next.is_empty());
            if cursor.is_none() {
                return Ok(None);
            }
        }
        Err(Failure::refused(format!("the list of sources does not end within {} of them", PAGES_MAX * PAGE_SOURCES)))
    }

    async fn page(&self, cursor: Option<&str>) -> Result<Page, Failure> {
        let mut url = self.at("sources");
        url.query_pairs_mut().append_pair("pagination.count", &PAGE_SOURCES.to_string());
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("pagination.cursor", cursor);
        }
        self.data(self.request(Method::GET, url)).await
    }

    async fn create(&self, slug: &str) -> Result<Source, Failure> {
        let source = json!({"slug": slug, "enabled": true, "metadataId": HTTP_API_SOURCE});
        let request =
            self.request(Method::POST, self.at("sources")).header(CONTENT_TYPE, MEDIA_TYPE).body(source.to_string());
        checked(self.data::<One>(request).await?.source)
    }

    fn at(&self, path: &str) -> Url {
        self.base.join(path).expect("the path is ours, and an id is checked")
    }

    fn one(&self, id: &str) -> Url {
        self.at(&format!("sources/{id}"))
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url).bearer_auth(self.token.reveal()).header(ACCEPT, MEDIA_TYPE)
    }

    async fn data<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        self.send(request).await?.data(&self.token, Timestamp::now())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        let response = request.send().await.map_err(|error| self.failure(&error))?;
        let code = response.status().as_u16();
        let (retry_after, reset) = {
            let header = |name: &str| text(response.headers(), name);
            (header(RETRY_AFTER.as_str()), header("x-ratelimit-reset"))
        };
        Ok(Answer { code, retry_after, reset, body: self.body(response).await? })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(Failure::refused(format!("the answer is larger than {ANSWER_MAX_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The words of an error may have a header in them.
    fn failure(&self, error: &reqwest::Error) -> Failure {
        match connect::failure(error) {
            Failure::Unavailable { words, after } => {
                Failure::Unavailable { words: presentable(&words, &self.token), after }
            }
            other => other,
        }
    }
}

/// A source whose id can be asked for later.
fn checked(source: Source) -> Result<Source, Failure> {
    if is_id(&source.id) { Ok(source) } else { Err(Failure::refused("the answer has a source without a usable id")) }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
