//! What a failed call means: the client's error -> an [`IndexError`], with what to do next where that is known.
//!
//! The client gives what happened to a connection in words only: tonic's and rustls' errors, in `Debug`. So words are looked for;
//! `tests/system/tls.rs` has real connections fail, so that it is noticed when they change.

use ::qdrant_client::QdrantError;
use tonic::Code;

use crate::index::{IndexError, ServerUrl};

/// A connection that was there, and broke. A TLS server breaks it when it is not greeted in TLS; which of these is seen is a race.
const BROKEN: [&str; 3] = ["h2 protocol error", "operation was canceled", "transport error"];

/// Connections that failed have odd codes in this client.
pub(super) fn of(error: &QdrantError, url: &ServerUrl, has_key: bool) -> IndexError {
    let status = match error {
        QdrantError::ResponseError { status } | QdrantError::ResourceExhaustedError { status, .. } => status,
        error => return IndexError::Engine(error.to_string()),
    };
    let words = format!("{} ({:?})", status.message(), status.code());
    match status.code() {
        // A key that may only read is let in, and refused at the first write.
        Code::Unauthenticated | Code::PermissionDenied => {
            let what = if has_key { "refuses index.api_key" } else { "asks for a key, and index.api_key is not set" };
            IndexError::Denied(format!("{url} {what}: set INKLING_INDEX__API_KEY to a key of that server that may write; it said: {words}"))
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::Cancelled | Code::Unknown | Code::Aborted => {
            IndexError::Unavailable(advice(status.message(), url).unwrap_or(words))
        }
        Code::ResourceExhausted => IndexError::Overloaded,
        _ => IndexError::Engine(words),
    }
}

/// Whose settings have to change before a connection can come about, and how; `None` for what may go by itself.
fn advice(words: &str, url: &ServerUrl) -> Option<String> {
    if !url.is_behind_tls() {
        let broke = BROKEN.iter().any(|broken| words.starts_with(broken));
        return broke.then(|| format!("{words}; if {url} speaks TLS, index.url must begin with https://"));
    }
    if let Some((_, why)) = words.split_once("InvalidCertificate(") {
        let why = closed(why);
        let next = if why.starts_with("UnknownIssuer") {
            "no authority that is trusted here signed it; set SSL_CERT_FILE to its authority's certificate (PEM), which then counts instead of the system's"
        } else if why.starts_with("NotValidForName") {
            "it is for another name; write index.url with a name that it holds"
        } else if why.starts_with("Expired") || why.starts_with("NotValidYet") {
            "now is not in its time; renew it, or set this machine's clock"
        } else if why.contains("CaUsedAsEndEntity") {
            "it is an authority's own; give the server one that the authority signed"
        } else {
            "give the server another one"
        };
        return Some(format!("the certificate of {url} is refused: {next} ({why})"));
    }
    if words.contains("InvalidMessage(") {
        return Some(format!("what {url} answers is not TLS: turn TLS on there (Qdrant: service.enable_tls), or begin index.url with http://"));
    }
    // The client drops the reason. It is this one, for any host that the settings let pass.
    words.contains("Failed to create TLS config").then(|| {
        format!("{url} cannot be trusted, for there are no authorities' certificates here: install the package ca-certificates, or set SSL_CERT_FILE (PEM)")
    })
}

/// What stands before the bracket that closes the one before it.
fn closed(words: &str) -> &str {
    let mut depth = 1;
    let end = words.find(|sign| {
        depth += match sign {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    &words[..end.unwrap_or(words.len())]
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    fn said(status: Status, url: &str, has_key: bool) -> IndexError {
        of(&QdrantError::ResponseError { status }, &url.parse().unwrap(), has_key)
    }

    #[test]
    fn a_key_that_is_missing_and_one_that_may_not_write_are_told_apart() {
        let missing = said(Status::unauthenticated("Must provide an API key"), "http://vectors.example:6334", false).to_string();
        let reader = said(Status::permission_denied("Global manage access is required"), "http://vectors.example:6334", true).to_string();

        assert!(missing.contains("is not set") && missing.contains("INKLING_INDEX__API_KEY"), "{missing}");
        assert!(reader.contains("refuses index.api_key") && reader.contains("may write") && reader.contains("Global manage"), "{reader}");
    }

    #[test]
    fn a_certificate_out_of_its_time_is_told_from_others_and_may_become_good_again() {
        let words = |why: &str| format!("Failed to connect: Error(Transport, ConnectError(Custom {{ kind: InvalidData, error: InvalidCertificate({why}) }}))");
        for (why, next) in [("ExpiredContext { time: UnixTime(1), not_after: UnixTime(0) }", "renew it"), ("NotValidYet", "clock"), ("Revoked", "another one")]
        {
            let error = said(Status::internal(words(why)), "https://vectors.example:6334", true);

            assert!(matches!(&error, IndexError::Unavailable(said) if said.contains(next) && said.ends_with(&format!("({why})"))), "{error}");
        }
    }

    #[test]
    fn a_server_that_is_only_gone_gets_no_advice() {
        let gone = "Failed to connect: ConnectError(\"tcp connect error\", Os { code: 111, kind: ConnectionRefused })";
        for url in ["http://vectors.example:6334", "https://vectors.example:6334"] {
            let error = said(Status::internal(gone), url, true).to_string();

            assert!(error.ends_with(&format!("{gone} (Internal)")), "{error}");
        }
    }
}
