//! Where a server is, the way to it, and what it says when it refuses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postgres::config::{Host, SslMode};
use postgres::error::SqlState;
use postgres::{Client, Config, GenericClient, NoTls};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pgpass;
use crate::{Error, Result};

/// The schema of a store that the URL does not name.
const SCHEMA: &str = "medsiglip";
const PATIENCE: Duration = Duration::from_secs(10);

/// A store's address.
pub(super) struct Address {
    config: Config,
    pub(super) schema: String,
    pub(super) place: Place,
}

/// What messages call a store: host, database and schema; no user and no password.
#[derive(Clone)]
pub(super) struct Place(String);

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self> {
        // What is wrong with it is not repeated: it may be the password.
        let bad = || {
            Error::BadArgument(
                "store: expected postgresql://USER@HOST:PORT/DATABASE, in it @, / and ? of a password as %40, %2F and %3F; \
                 the password may be in PGPASSWORD or ~/.pgpass"
                    .into(),
            )
        };
        let (url, schema) = take_schema(url)?;
        let mut config: Config = url.parse().map_err(|_| bad())?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        let name = |host: &Host| match host {
            Host::Tcp(name) => {
                (!name.is_empty() && name.chars().all(is_name)).then(|| name.clone())
            }
            #[cfg(unix)]
            Host::Unix(_) => Some("(socket)".into()),
        };
        let hosts: Option<Vec<String>> = config.get_hosts().iter().map(name).collect();
        let hosts = hosts.filter(|hosts| !hosts.is_empty()).ok_or_else(bad)?;
        if config.get_password().is_none()
            && let Some(password) = password(&config)
        {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(PATIENCE);
        }
        if config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(match is_local(&config) {
                true => SslMode::Disable,
                false => SslMode::Require,
            });
        }
        config.application_name("medsiglip");
        config.notice_callback(|_| {});
        let place = Place(format!("PostgreSQL, {}, schema {schema}", hosts.join(",")));
        Ok(Self {
            config,
            schema,
            place,
        })
    }

    /// A connection that sees the store's schema.
    pub(super) fn connect(&self) -> Result<Client> {
        let client = match self.config.get_ssl_mode() {
            SslMode::Disable => self.config.connect(NoTls),
            _ => self.config.connect(tls()?),
        };
        let mut client = client.map_err(|e| self.place.failed(e))?;
        // Compiling a statement takes longer than a walk through an index.
        let settings = format!(
            "SET lock_timeout = {}; SET jit = off;
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
            PATIENCE.as_millis()
        );
        client
            .batch_execute(&settings)
            .map_err(|e| self.place.failed(e))?;
        Ok(client)
    }

    /// From here on a table's name is that of the store's schema.
    pub(super) fn enter(&self, client: &mut impl GenericClient) -> Result<()> {
        let path = "SELECT set_config('search_path', concat_ws(', ', quote_ident($1), (
                SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
                WHERE extname = 'vector')), false)";
        let entered = client.execute(path, &[&self.schema]);
        entered.map(drop).map_err(|e| self.place.failed(e))
    }
}

/// The URL without `schema=NAME`, and that name. Certificates are always verified, so that this need not be said.
fn take_schema(url: &str) -> Result<(String, String)> {
    let Some((front, options)) = url.split_once('?') else {
        return Ok((url.to_owned(), SCHEMA.to_owned()));
    };
    let (own, others): (Vec<&str>, Vec<&str>) = options
        .split('&')
        .map(|option| match option {
            "sslmode=verify-full" | "sslmode=verify-ca" => "sslmode=require",
            _ => option,
        })
        .partition(|option| option.starts_with("schema="));
    let schema = match own.last() {
        Some(option) => &option["schema=".len()..],
        None => SCHEMA,
    };
    let is_sign = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !(1..=63).contains(&schema.len()) || !schema.chars().all(is_sign) {
        return Err(Error::BadArgument(
            "store: expected as schema up to 63 small letters, digits and underscores".into(),
        ));
    }
    Ok((format!("{front}?{}", others.join("&")), schema.to_owned()))
}

/// The password from where PostgreSQL's own programs look for it.
fn password(config: &Config) -> Option<String> {
    if let Ok(password) = std::env::var("PGPASSWORD") {
        return Some(password);
    }
    let user = config.get_user().map(str::to_owned);
    let user = user.or_else(|| std::env::var("USER").ok())?;
    let database = config.get_dbname().unwrap_or(&user);
    let ports = config.get_ports();
    let mut hosts = config.get_hosts().iter().enumerate();
    hosts.find_map(|(i, host)| {
        let host = match host {
            Host::Tcp(name) => name,
            #[cfg(unix)]
            Host::Unix(_) => "localhost",
        };
        let port = ports.get(i).or(ports.first()).unwrap_or(&5432).to_string();
        pgpass::password([host, &port, database, &user])
    })
}

/// Whether nothing leaves this machine.
fn is_local(config: &Config) -> bool {
    let is_own = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_own) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// Whom the system trusts is trusted, or whom `SSL_CERT_FILE` names.
fn tls() -> Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Unsupported(format!("store: TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

impl Place {
    pub(super) fn damaged(&self) -> Error {
        Error::BadConfig(format!(
            "the store is damaged, or none of medsiglip: {}",
            self.0
        ))
    }

    pub(super) fn wrong(&self, what: &str) -> String {
        format!("store: {what}: {}", self.0)
    }

    /// An error with the server's code; its words may hold data.
    pub(super) fn failed(&self, error: postgres::Error) -> Error {
        let Some(code) = error.code() else {
            let text = match std::error::Error::source(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            };
            return Error::io("use the store", &self.0, std::io::Error::other(text));
        };
        let state = format!("SQLSTATE {}", code.code());
        let told = |what: &str| Error::BadArgument(self.wrong(&format!("{what} ({state})")));
        match *code {
            SqlState::LOCK_NOT_AVAILABLE
            | SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED => {
                told("another process is writing to it; try again when it is done")
            }
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                told("the server refuses this user or password")
            }
            SqlState::INVALID_CATALOG_NAME => told("the server has no such database"),
            SqlState::INSUFFICIENT_PRIVILEGE => told("the server's user may not do this"),
            SqlState::CHARACTER_NOT_IN_REPERTOIRE | SqlState::UNTRANSLATABLE_CHARACTER => told(
                "an id or a field has a sign that the database cannot hold: zero, or one that is not in its encoding",
            ),
            SqlState::UNDEFINED_TABLE
            | SqlState::UNDEFINED_COLUMN
            | SqlState::DATA_CORRUPTED
            | SqlState::INDEX_CORRUPTED => self.damaged(),
            _ => Error::io("use the store", &self.0, std::io::Error::other(state)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_tell_neither_user_nor_password() {
        let address =
            Address::parse("postgresql://ann:secret@db.example:6000/x?schema=chest_2").unwrap();
        assert_eq!(address.schema, "chest_2");
        assert_eq!(address.place.0, "PostgreSQL, db.example, schema chest_2");
        assert_eq!(address.config.get_ports(), [6000]);
        for url in [
            "postgresql://ann:sec@ret@db/x",
            "postgresql://ann:secret@/x",
            "postgresql://ann:secret@db:port/x",
            "postgresql://ann:secret@db/x?secret=1",
            "postgresql://ann:secret@db/x?schema=Chest;",
        ] {
            let wrong = Address::parse(url).err().unwrap();
            assert_eq!(wrong.code(), "BAD_ARGUMENT");
            assert!(!wrong.to_string().contains("ret"), "{wrong}");
        }
    }

    #[test]
    fn another_machine_is_reached_through_tls_alone() {
        for (url, expected) in [
            ("postgresql://db.example/x", SslMode::Require),
            ("postgresql://10.0.0.1/x", SslMode::Require),
            (
                "postgresql://localhost/x?hostaddr=10.0.0.1",
                SslMode::Require,
            ),
            ("postgresql://localhost,db.example/x", SslMode::Require),
            (
                "postgresql://db.example/x?sslmode=disable",
                SslMode::Disable,
            ),
            (
                "postgresql://localhost/x?sslmode=verify-full",
                SslMode::Require,
            ),
            ("postgresql://[::1]/x", SslMode::Disable),
            (
                "postgresql:///x?host=/run/postgresql&schema=a",
                SslMode::Disable,
            ),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.config.get_ssl_mode(), expected, "{url}");
        }
    }
}
