//! Socket addresses between the standard library's form and the kernel's.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{io, mem};

use super::op::Address;

/// Room for an address that the kernel will write.
pub(crate) fn room() -> Address {
    // SAFETY: all zeros is a valid address storage (of no family).
    let storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    Address {
        storage,
        len: size_of::<libc::sockaddr_storage>() as libc::socklen_t,
    }
}

pub(crate) fn encode(addr: &SocketAddr) -> Address {
    let mut address = room();
    match addr {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is larger than and aligned for an IPv4 address, and zeroed.
            let raw = unsafe { &mut *(&raw mut address.storage).cast::<libc::sockaddr_in>() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            address.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        }
        SocketAddr::V6(v6) => {
            // SAFETY: the storage is larger than and aligned for an IPv6 address, and zeroed.
            let raw = unsafe { &mut *(&raw mut address.storage).cast::<libc::sockaddr_in6>() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_flowinfo = v6.flowinfo();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            address.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        }
    }
    address
}

pub(crate) fn decode(address: &Address) -> io::Result<SocketAddr> {
    match i32::from(address.storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds an IPv4 address.
            let raw = unsafe { &*(&raw const address.storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Ok(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds an IPv6 address.
            let raw = unsafe { &*(&raw const address.storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Ok(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
        }
        family => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the kernel gave an address of family {family}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in [
            "127.0.0.1:9092",
            "255.1.2.3:65535",
            "[::1]:1",
            "[fe80::1%7]:9092",
        ] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(decode(&encode(&addr)).unwrap(), addr, "{text}");
        }
    }

    #[test]
    fn an_unknown_family_is_an_error() {
        assert!(decode(&room()).is_err());
    }
}
