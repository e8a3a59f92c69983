//! Namespaces, servers, clients and agents for tests and the demo.
