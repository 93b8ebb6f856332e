//! raft-group
