//! Node file: the manifest nodes of the last roots, each readable on its own.
//!
//! ```text
//! file   = magic (8 bytes), sum (32 bytes, BLAKE3 of all that follows)
//!          u32 number of roots, u32 number of nodes, roots (32 bytes each)
//!          index (for each node, by id: 32 bytes id, u32 length), the nodes in that order
//! ```
//!
//! Integers are little-endian. The reader hashes every node, and a root counts only if the file has
//! all its nodes. So an invalid file can slow a publish, but never make it wrong.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use pmx_core::hash::Hash;
use pmx_core::id::{NodeId, Root};
use pmx_sync::manifest::{ManifestError, Node, NodeMap, NodeSource};
use rayon::prelude::*;

const MAGIC: &[u8; 8] = b"pmxnode\x01";
const HEAD: usize = 48;
const ID: usize = 32;
const ENTRY: usize = ID + 4;

/// Nodes that are read in place, from the bytes of the file.
#[derive(Debug, Clone)]
pub struct Nodes {
    bytes: Vec<u8>,
    roots: Vec<Root>,
    index_at: usize,
    /// Where each node of the index starts.
    starts: Vec<usize>,
}

impl Nodes {
    /// Reads a file; `None` if it is invalid.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        if bytes.get(..8)? != MAGIC || bytes.get(8..40)? != Hash::of(bytes.get(40..)?).as_bytes() {
            return None;
        }
        let number =
            |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
        let (root_count, node_count) = (number(40)?, number(44)?);
        let index_at = HEAD.checked_add(root_count.checked_mul(ID)?)?;
        let nodes_at = index_at.checked_add(node_count.checked_mul(ENTRY)?)?;
        let roots = bytes.get(HEAD..index_at)?.chunks_exact(ID);
        let roots = roots
            .map(|id| id.try_into().map(Root::from_bytes))
            .collect::<Result<_, _>>()
            .ok()?;
        let mut starts = Vec::with_capacity(bytes.get(index_at..nodes_at)?.len() / ENTRY + 1);
        let mut at = nodes_at;
        for entry in bytes[index_at..nodes_at].chunks_exact(ENTRY) {
            starts.push(at);
            at = at.checked_add(u32::from_le_bytes(*entry.last_chunk()?) as usize)?;
        }
        starts.push(at);
        let nodes = (at == bytes.len()).then_some(Self {
            bytes,
            roots,
            index_at,
            starts,
        })?;
        nodes.are_genuine().then(|| nodes.with_whole_roots())
    }

    /// Whether each node hashes to its id, and the ids are in order.
    fn are_genuine(&self) -> bool {
        let index = self.index_at..self.index_at + (self.starts.len() - 1) * ENTRY;
        let entries: Vec<&[u8]> = self.bytes[index].chunks_exact(ENTRY).collect();
        let is_sorted = entries.windows(2).all(|pair| pair[0][..ID] < pair[1][..ID]);
        let is_genuine = |(at, entry): (usize, &&[u8])| {
            let node = self.bytes.get(self.starts[at]..self.starts[at + 1]);
            node.is_some_and(|node| NodeId::of(node).as_bytes() == &entry[..ID])
        };
        is_sorted && entries.par_iter().enumerate().all(is_genuine)
    }

    /// Removes the roots that lack nodes.
    fn with_whole_roots(mut self) -> Self {
        let roots = std::mem::take(&mut self.roots);
        self.roots = roots
            .into_iter()
            .filter(|root| self.is_whole(*root))
            .collect();
        self
    }

    fn is_whole(&self, root: Root) -> bool {
        let (mut open, mut seen) = (vec![root], HashSet::from([root]));
        while let Some(id) = open.pop() {
            let Some(bytes) = self.bytes(&id) else {
                return false;
            };
            // The second byte of a node is its level: leaves have no children.
            if bytes.get(1) == Some(&0) {
                continue;
            }
            let Ok(Node::Interior { children, .. }) = Node::verify(bytes, id) else {
                return false;
            };
            let children = children.iter().map(|child| child.id);
            open.extend(children.filter(|child| seen.insert(*child)));
        }
        true
    }

    /// The roots with all their nodes, the newest first.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The bytes of a node, unverified.
    fn bytes(&self, id: &NodeId) -> Option<&[u8]> {
        let count = self.starts.len() - 1;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            let at = self.index_at + middle * ENTRY;
            match self.bytes[at..at + ID].cmp(id.as_bytes().as_slice()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => {
                    return self.bytes.get(self.starts[middle]..self.starts[middle + 1]);
                }
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

impl NodeSource for Nodes {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        let bytes = self.bytes(id).ok_or(ManifestError::Missing(*id))?;
        Node::verify(bytes, *id).map(Arc::new)
    }
}

/// New nodes, in front of a file of older ones.
#[derive(Debug, Default)]
pub struct NodeStore {
    /// The new nodes.
    pub new: NodeMap,
    /// The older ones.
    pub old: Option<Nodes>,
}

impl NodeStore {
    /// Whether all nodes of a root are present; the file's index counts, unverified.
    pub fn has(&self, root: &Root) -> bool {
        self.old
            .as_ref()
            .is_some_and(|old| old.roots.contains(root))
    }

    /// A file with every node of these roots. It omits a root that lacks nodes.
    pub fn encode(&self, roots: &[Root]) -> Vec<u8> {
        let mut kept = Vec::new();
        let mut nodes = BTreeMap::new();
        for &root in roots {
            let mut mine = BTreeMap::new();
            if self.collect(root, &nodes, &mut mine).is_some() && !kept.contains(&root) {
                kept.push(root);
                nodes.append(&mut mine);
            }
        }
        encode(&kept, &nodes)
    }

    fn bytes(&self, id: &NodeId) -> Option<&[u8]> {
        match self.new.bytes(id) {
            Some(bytes) => Some(bytes),
            None => self.old.as_ref()?.bytes(id),
        }
    }

    /// Gathers the nodes of a root that are not `known` yet.
    fn collect<'a>(
        &'a self,
        root: Root,
        known: &BTreeMap<NodeId, &'a [u8]>,
        found: &mut BTreeMap<NodeId, &'a [u8]>,
    ) -> Option<()> {
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            if known.contains_key(&id) || found.contains_key(&id) {
                continue;
            }
            let bytes = self.bytes(&id)?;
            found.insert(id, bytes);
            // The second byte of a node is its level: leaves have no children.
            if bytes.get(1) != Some(&0)
                && let Node::Interior { children, .. } = Node::verify(bytes, id).ok()?
            {
                open.extend(children.iter().map(|child| child.id));
            }
        }
        Some(())
    }
}

impl NodeSource for NodeStore {
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ManifestError> {
        match (self.new.bytes(id), &self.old) {
            (Some(_), _) => self.new.node(id),
            (None, Some(old)) => old.node(id),
            (None, None) => Err(ManifestError::Missing(*id)),
        }
    }
}

fn encode(roots: &[Root], nodes: &BTreeMap<NodeId, &[u8]>) -> Vec<u8> {
    let body: usize = nodes.values().map(|bytes| bytes.len()).sum();
    let mut out = Vec::with_capacity(HEAD + roots.len() * ID + nodes.len() * ENTRY + body);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&(roots.len() as u32).to_le_bytes());
    out.extend_from_slice(&(nodes.len() as u32).to_le_bytes());
    for root in roots {
        out.extend_from_slice(root.as_bytes());
    }
    for (id, bytes) in nodes {
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
    for bytes in nodes.values() {
        out.extend_from_slice(bytes);
    }
    let sum = Hash::of(&out[40..]);
    out[8..40].copy_from_slice(sum.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use pmx_core::id::BlobId;
    use pmx_sync::manifest::{Built, Entry, Row, build, diff};
    use pmx_sync::media::Media;
    use pmx_sync::path::SitePath;

    use super::*;

    fn site(files: u32, changed: u32) -> Built {
        let rows = (0..files).map(|number| Row {
            path: SitePath::parse(&format!("docs/{number:05}.html")).unwrap(),
            entry: Entry {
                blob: BlobId::of(&[number == changed].map(u8::from)),
                size: 9,
                media: Media::unknown(),
            },
        });
        build(rows).unwrap()
    }

    fn store(sites: &[&Built]) -> NodeStore {
        let mut store = NodeStore::default();
        for site in sites {
            store.new.extend(site.nodes.clone());
        }
        store
    }

    #[test]
    fn node_file_holds_the_nodes_of_its_roots() {
        let (one, two) = (site(2000, 7), site(2000, 1500));
        let bytes = store(&[&one, &two]).encode(&[one.root, two.root, one.root]);
        let nodes = Nodes::parse(bytes).unwrap();
        assert_eq!(nodes.roots(), [one.root, two.root]);
        let changes = diff(&nodes, one.root, &nodes, two.root).unwrap();
        let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["docs/00007.html", "docs/01500.html"]);
        // The file stores shared nodes once; dropping a root drops only the nodes that no other
        // root has.
        let both = nodes.starts.len();
        let again = NodeStore {
            new: NodeMap::default(),
            old: Some(nodes),
        };
        let fewer = Nodes::parse(again.encode(&[two.root])).unwrap();
        assert!(fewer.starts.len() < both);
        assert!(fewer.node(&two.root).is_ok() && fewer.node(&one.root).is_err());
    }

    #[test]
    fn root_that_is_not_whole_is_left_out() {
        let (whole, mut torn) = (site(500, 1), site(500, 400));
        torn.nodes.remove(0);
        let nodes = Nodes::parse(store(&[&torn]).encode(&[torn.root])).unwrap();
        assert!(nodes.roots().is_empty());
        let nodes = Nodes::parse(store(&[&whole]).encode(&[torn.root, whole.root])).unwrap();
        assert_eq!(nodes.roots(), [whole.root]);
    }

    #[test]
    fn node_file_with_invalid_bytes_is_ignored() {
        let built = site(300, 1);
        let good = store(&[&built]).encode(&[built.root]);
        assert!(Nodes::parse(good.clone()).is_some());
        for at in [0, 7, 8, 39, 40, 44, 48, 90, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Nodes::parse(bad).is_none(), "byte {at}");
        }
        for len in [0, 8, 40, 48, good.len() - 1] {
            assert!(Nodes::parse(good[..len].to_vec()).is_none(), "{len} bytes");
        }
        assert!(Nodes::parse([good, vec![0]].concat()).is_none());
    }

    #[test]
    fn node_file_with_a_right_sum_and_wrong_counts_is_ignored() {
        let built = site(300, 1);
        let good = store(&[&built]).encode(&[built.root]);
        for at in [40, 44] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            let sum = Hash::of(&bad[40..]);
            bad[8..40].copy_from_slice(sum.as_bytes());
            assert!(Nodes::parse(bad).is_none(), "count at {at}");
        }
    }

    #[test]
    fn node_under_a_wrong_id_makes_no_file() {
        let built = site(10, 1);
        let bytes = built.nodes[0].bytes.to_vec();
        let wrong = NodeId::of(b"another");
        let file = encode(&[wrong], &BTreeMap::from([(wrong, bytes.as_slice())]));
        assert!(Nodes::parse(file).is_none());
    }

    #[test]
    fn root_that_the_file_only_claims_is_left_out() {
        let (whole, torn) = (site(500, 1), site(2000, 400));
        let mut nodes: BTreeMap<_, _> = BTreeMap::new();
        for node in whole.nodes.iter().chain(torn.nodes.iter().skip(1)) {
            nodes.insert(NodeId::of(&node.bytes), &node.bytes[..]);
        }
        let few: BTreeMap<_, _> = nodes.clone().into_iter().take(1).collect();
        for nodes in [nodes, few] {
            let file = encode(&[torn.root, whole.root], &nodes);
            let roots = Nodes::parse(file).unwrap().roots().to_vec();
            assert!(roots.iter().all(|root| *root == whole.root));
        }
    }
}
