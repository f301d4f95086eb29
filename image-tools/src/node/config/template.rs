//! The file as it lies on a fresh card.

/// `bramble.toml` with every key, commented out.
pub const TEMPLATE: &str = r#"# Settings of this node. Remove the # in front of what you want to set; save; put the card into
# the machine; power on. What the node did not understand is told in status.txt beside this file.

# The node's name. Without one it is bramble- and four digits of its network card's address.
#hostname = "pi-kitchen"

# Join this cluster: what `bramble token` prints on one of its nodes. Without a token the node is
# a cluster of its own.
#token = "BRAMBLE-1-..."
#cluster = "home"

# auto: votes and runs apps; master: votes only; agent: runs apps only.
#role = "auto"

# What constraints of apps can ask for.
#attributes = { rack = "1" }

#[wifi]
#ssid = "home"
#password = "secret of 8 or more characters"
#country = "DE"

# Without an address the node asks DHCP, and takes a link-local one where nobody answers. With
# one, it is given to the first network card, or to the interface named here; others ask DHCP.
#[network]
#address = "192.168.1.5/24"
#gateway = "192.168.1.1"
#dns = ["192.168.1.1"]
#interface = "eth1"

# Who may log in as root by ssh.
#[ssh]
#keys = ["ssh-ed25519 AAAA... me@pc"]

# Any setting of `bramble up`; `bramble up --print-config` lists them.
#[bramble]
#open-api = true
"#;
