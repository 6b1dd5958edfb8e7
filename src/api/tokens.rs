//! Tokens: who may do what through a server. A token is a secret of 256 random bits, of which the store
//! keeps a digest alone; each is a definition of the kind `token` under an id of its own, so that two
//! that are made at once under one name are two tokens, both listed and both revoked by it.
//! Knows no HTTP.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::wire::Time;
use super::{ApiError, Client, Result};
use crate::domain::{Ms, Name};
use crate::store::{Definition, StoreError};

/// What the store calls their kind.
const KIND: &str = "token";
/// What every secret begins with, so that one that leaks is known for what it is.
const PREFIX: &str = "gft_";

/// What a token may do. Each route of a server needs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Add jobs, start runs.
    Enqueue,
    /// Change what is there. Includes the two before.
    Operate,
    /// Everything, also tokens, definitions and the store itself.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Enqueue, Scope::Operate, Scope::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Enqueue => "enqueue",
            Scope::Operate => "operate",
            Scope::Admin => "admin",
        }
    }

    /// Whether whoever has this may do what needs `wanted`.
    pub fn covers(self, wanted: Scope) -> bool {
        match self {
            Scope::Admin => true,
            Scope::Operate => wanted != Scope::Admin,
            one => one == wanted,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope: read, enqueue, operate or admin")]
pub struct BadScope(String);

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Scope, BadScope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| BadScope(text.to_owned()))
    }
}

impl TryFrom<String> for Scope {
    type Error = BadScope;

    fn try_from(text: String) -> Result<Scope, BadScope> {
        text.parse()
    }
}

/// A secret as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Hashed([u8; 32]);

impl Hashed {
    pub fn of(secret: &str) -> Hashed {
        Hashed(Sha256::digest(secret.as_bytes()).into())
    }

    /// Takes the same time for any two.
    pub fn is_same(&self, other: &Hashed) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    fn parse(text: &str) -> Option<Hashed> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Hashed)
    }
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A token as a server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub name: Name,
    pub scopes: Vec<Scope>,
    pub created_at: Ms,
    pub hashed: Hashed,
}

/// What is kept of one.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: Name,
    scopes: Vec<Scope>,
    created_at: Ms,
    sha256: String,
}

/// A token, as every face shows it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TokenView {
    pub id: String,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub created_at: Time,
}

impl From<&Token> for TokenView {
    fn from(token: &Token) -> TokenView {
        TokenView {
            id: token.id.clone(),
            name: token.name.to_string(),
            scopes: token.scopes.clone(),
            created_at: Time(token.created_at),
        }
    }
}

impl Client {
    /// Every token, the oldest first.
    ///
    /// # Errors
    /// The store's; [`StoreError::Corrupt`] for one that cannot be read: it is not passed over, because
    /// then a server could think that there is none.
    pub async fn tokens(&self) -> Result<Vec<Token>> {
        let kept = self.store().definitions(KIND).await?;
        let mut tokens = kept.iter().map(read).collect::<Result<Vec<Token>>>()?;
        tokens.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(tokens)
    }

    /// Makes a token, and gives its secret, which nobody can tell again.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if there is one of this name.
    pub async fn create_token(&self, name: &Name, scopes: Vec<Scope>) -> Result<(Token, String)> {
        if self.tokens().await?.iter().any(|token| token.name == *name) {
            return Err(ApiError::Conflict(format!("there is a token `{name}` already")));
        }
        let mut bytes = Vec::with_capacity(32);
        (0..4).for_each(|_| bytes.extend_from_slice(&self.entropy().next().to_be_bytes()));
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let (id, created_at) = (self.producer_id().to_string(), self.clock().now());
        let token = Token { id, name: name.clone(), scopes, created_at, hashed: Hashed::of(&secret) };
        let definition = definition(&token)?;
        self.patiently(|| self.store().define(std::slice::from_ref(&definition))).await?;
        Ok((token, secret))
    }

    /// Takes back every token of this name, or the one with this id.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn revoke_token(&self, name: &str) -> Result<Vec<Token>> {
        let mut tokens = self.tokens().await?;
        tokens.retain(|token| token.name.as_str() == name || token.id == name);
        if tokens.is_empty() {
            return Err(ApiError::NotFound { noun: "token", id: name.to_owned() });
        }
        for token in &tokens {
            let id: Name = token.id.parse().map_err(|_| corrupt(&token.id))?;
            self.patiently(|| self.store().undefine(KIND, &id)).await?;
        }
        Ok(tokens)
    }
}

fn corrupt(id: &str) -> ApiError {
    StoreError::Corrupt(format!("the token {id} cannot be read")).into()
}

fn definition(token: &Token) -> Result<Definition> {
    let kept = Kept {
        name: token.name.clone(),
        scopes: token.scopes.clone(),
        created_at: token.created_at,
        sha256: token.hashed.text(),
    };
    let text = serde_json::to_string(&kept).map_err(|_| corrupt(&token.id))?;
    let hash = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = token.id.parse().map_err(|_| corrupt(&token.id))?;
    Ok(Definition { kind: KIND.to_owned(), name, hash, text })
}

fn read(kept: &Definition) -> Result<Token> {
    let unreadable = || corrupt(kept.name.as_str());
    let Kept { name, scopes, created_at, sha256 } = serde_json::from_str(&kept.text).map_err(|_| unreadable())?;
    let hashed = Hashed::parse(&sha256).ok_or_else(unreadable)?;
    Ok(Token { id: kept.name.to_string(), name, scopes, created_at, hashed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_reach_as_far_as_they_say() {
        let reach = |scope: Scope| Scope::ALL.map(|wanted| scope.covers(wanted));
        assert_eq!(reach(Scope::Read), [true, false, false, false]);
        assert_eq!(reach(Scope::Enqueue), [false, true, false, false]);
        assert_eq!(reach(Scope::Operate), [true, true, true, false]);
        assert_eq!(reach(Scope::Admin), [true; 4]);
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert!("root".parse::<Scope>().is_err());
    }

    #[test]
    fn a_secret_is_kept_as_a_digest_that_reads_back() {
        let hashed = Hashed::of("gft_x");
        let read = Hashed::parse(&hashed.text()).expect("it reads back");
        assert!(read.is_same(&hashed) && !read.is_same(&Hashed::of("gft_y")));
        assert_eq!(format!("{hashed:?}"), "***");
    }
}
