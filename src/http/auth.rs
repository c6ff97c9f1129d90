//! Who may use which door: an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`, compared by hash in constant time.

use axum::http::{HeaderMap, Method, header};
use subtle::Choice;

use super::{
    problem::{Kind, Problem},
    settings::{HttpSettings, KeyHash, KeySettings},
};

/// Whom a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody, keys or not.
    Open,
    /// Pages of the shop.
    Storefront,
    /// Operators and the shop's own servers.
    Admin,
}

/// Whom a route is for, by its template. What is not named here is for admins.
pub(super) fn access(method: &Method, route: &str, open_metrics: bool) -> Access {
    match route {
        // Pages and documents without data: a browser cannot send a key with a page it opens.
        "/" | "/docs" | "/docs/" | "/docs/{*file}" | "/openapi.json" | "/health/live" | "/health/ready" | super::UNMATCHED => Access::Open,
        "/metrics" if open_metrics => Access::Open,
        "/recommend" | "/understand" | "/feedback" => Access::Storefront,
        "/items/{item_id}/similar" | "/similar" if matches!(*method, Method::GET | Method::HEAD) => Access::Storefront,
        _ => Access::Admin,
    }
}

/// Lets in who has the key for a route.
pub(super) struct Keys {
    keys: KeySettings,
    open_metrics: bool,
}

impl Keys {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        Self { keys: settings.keys.clone(), open_metrics: settings.open_metrics }
    }

    pub(super) fn admit(&self, method: &Method, route: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let access = access(method, route, self.open_metrics);
        let nobody_has_keys = self.keys.storefront.is_empty() && self.keys.admin.is_empty();
        if access == Access::Open || nobody_has_keys {
            return Ok(());
        }
        let shown =
            shown_key(headers).ok_or_else(|| Problem::new(Kind::Unauthorized, "send an API key as \"Authorization: Bearer KEY\" or \"X-API-Key: KEY\""))?;
        let hash = KeyHash::of(shown);
        let admin = one_of(&self.keys.admin, &hash);
        let storefront = one_of(&self.keys.storefront, &hash);
        match access {
            _ if bool::from(admin) => Ok(()),
            Access::Storefront if bool::from(storefront) => Ok(()),
            _ if bool::from(storefront) => Err(Problem::new(Kind::Forbidden, "this needs an admin key; a storefront key may recommend and give feedback")),
            _ => Err(Problem::new(Kind::Unauthorized, "the API key is not known here")),
        }
    }
}

fn one_of(keys: &[KeyHash], shown: &KeyHash) -> Choice {
    // No early end: every key is compared every time.
    keys.iter().fold(Choice::from(0), |known, key| known | key.is(shown))
}

fn shown_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()).map(str::trim))
}
