//! Seams for the fuzz targets: readers of frames from strangers that nothing outside needs.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{Mac, announce, neighbour};

/// Who an ARP frame says is where.
pub fn read_arp_claim(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    announce::read_claim(frame)
}

/// Who a neighbour advertisement says is where.
pub fn read_neighbour_claim(frame: &[u8]) -> Option<(Ipv6Addr, Mac)> {
    neighbour::read_advertisement(frame)
}
