//! Identifiers: what callers name things by (`ItemId`, `UserId`, …) and what we count them by (`ItemKey`, `Revision`).

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// An id is this many bytes of UTF-8 at most.
pub const MAX_ID_BYTES: usize = 256;

/// A string that is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_ID_BYTES} bytes of UTF-8 without control characters")]
pub struct InvalidId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $example:literal) => {
        $(#[$doc])*
        ///
        /// 1 to [`MAX_ID_BYTES`] bytes of UTF-8 without control characters, checked at construction; cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String, description = "1 to 256 bytes of UTF-8 without control characters.", examples($example))]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the id as it is, or says that it is none.
            pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidId> {
                let id = id.as_ref();
                let valid = (1..=MAX_ID_BYTES).contains(&id.len()) && !id.chars().any(char::is_control);
                if valid { Ok(Self(id.into())) } else { Err(InvalidId) }
            }

            /// The id as the caller wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(id: String) -> Result<Self, InvalidId> {
                Self::new(id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&&*self.0).finish()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// What the shop calls an item: a SKU, a slug, a URL.
    ItemId,
    "sku-3"
);
id!(
    /// What the shop calls a user.
    UserId,
    "u42"
);
id!(
    /// A visit; stands for the user where nobody is logged in.
    SessionId,
    "s9"
);
id!(
    /// The caller's name for one event; a retried one counts once.
    EventId,
    "e-1"
);
id!(
    /// Names one answer of `/recommend`, so that events can say which list they came from.
    RecommendationId,
    "01993f6e-8a70-7c22-b6c1-0d6b8f1f7a10"
);

/// The store's number for an item: given at the first write, never reused, small and dense.
///
/// It is the point id in the index, the row of the item columns and the vocabulary of artefacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemKey(pub u32);

impl ItemKey {
    /// The key as a position in a table with one row an item.
    pub fn row(self) -> usize {
        self.0 as usize
    }
}

/// A catalogue-wide counter that every write of an item (deletes included) takes the next value of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub i64);

/// Whose history it is: a user's, or a visit's where nobody is logged in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// A known user.
    User(UserId),
    /// A visit.
    Session(SessionId),
}

impl Actor {
    /// The user where there is one, else the session.
    pub fn of(user: Option<&UserId>, session: Option<&SessionId>) -> Option<Self> {
        user.map(|user| Self::User(user.clone())).or_else(|| session.map(|session| Self::Session(session.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_any_script_and_refuse_control_characters_and_excess() {
        for good in ["a", "sku/7 ü", "商品 七", &"x".repeat(256)] {
            assert_eq!(ItemId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a\nb", "\u{0}", "\u{85}", &"x".repeat(257), &"商".repeat(86)] {
            assert_eq!(ItemId::new(bad), Err(InvalidId), "{bad:?}");
        }
    }
}
