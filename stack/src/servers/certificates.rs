//! Certificates for servers on loopback that speak TLS with each other.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::nats::quoted;
use crate::private_file;

/// An authority that is forgotten once its servers have started.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Puts `certificate.pem`, `key.pem` and `authority.pem` into the folder, for a server that is also a client.
    pub fn certify(&self, folder: &Path) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        private_file::replace(&folder.join("key.pem"), key.serialize_pem().as_bytes())?;
        fs::write(folder.join("certificate.pem"), certificate)?;
        fs::write(folder.join("authority.pem"), &self.certificate)?;
        Ok(())
    }
}

/// The variables that nats-server's configuration names these files by.
pub fn tls(folder: &Path) -> Result<Vec<(&'static str, OsString)>> {
    let folder = std::path::absolute(folder)?;
    let files = [
        ("NATS_TLS_CERTIFICATE", "certificate.pem"),
        ("NATS_TLS_KEY", "key.pem"),
        ("NATS_TLS_AUTHORITY", "authority.pem"),
    ];
    Ok(files.into_iter().map(|(variable, name)| (variable, quoted(&folder.join(name)))).collect())
}
