//! How much of everything a configuration may ask for.

use std::time::Duration;

/// Bytes of a group, service or colour name: kernel maps hold 32, the last of them NUL.
pub const NAME_MAX: usize = 31;
/// Groups of a host.
pub const GROUPS_MAX: usize = 256;
/// Colours of a group: a steering word counts eight slots.
pub const COLOURS_MAX: usize = 8;
/// Services and previews of a host.
pub const SERVICES_MAX: usize = 16_384;
/// Endpoints of a host, over all services and colours.
pub const ENDPOINTS_MAX: usize = 65_534;
/// The largest weight of an endpoint.
pub const WEIGHT_MAX: u16 = 1000;
/// Bytes of an interface name: the kernel's `IFNAMSIZ` less its NUL.
pub const INTERFACE_NAME_MAX: usize = 15;
/// Bytes of a Unix socket's path: `sun_path` less its NUL.
pub const SOCKET_PATH_MAX: usize = 107;
/// Bytes of a line of words for people.
pub const LINE_MAX: usize = 256;
/// The smallest and largest flow map.
pub const FLOWS: std::ops::RangeInclusive<u32> = 1..=16_777_216;
/// The longest duration anywhere: what a person can still mean.
pub const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
