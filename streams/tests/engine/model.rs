//! Model of streams: lists of messages.

use std::collections::{BTreeMap, BTreeSet};

use pmx_core::time::Timestamp;
use pmx_streams::{
    Append, Appended, Create, Created, Deleted, Expiry, Fork, From, MediaType, Offset, Read,
    Refusal, StreamProperties,
};

use super::world::{name, number_of};

#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) media: MediaType,
    /// Messages of a JSON stream, bytes of any other: what positions count.
    pub(super) items: Vec<Vec<u8>>,
    /// Where appends begin.
    starts: BTreeSet<u64>,
    /// The number of earlier streams of the name.
    pub(super) incarnation: u64,
    closed: bool,
    expiry: Expiry,
    inherited: bool,
    touched: u64,
    deleted: bool,
    generation: u64,
    references: BTreeSet<u64>,
    branch: Option<(usize, u64, u64)>,
    seq: Option<String>,
    producers: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) streams: BTreeMap<usize, Stream>,
    /// References of ended forks to their sources, not yet released.
    unreleased: Vec<(usize, u64)>,
    generations: u64,
    /// The next incarnation of names whose stream ended.
    past: BTreeMap<usize, u64>,
}

impl Stream {
    fn expired(&self, now: u64) -> bool {
        match self.expiry {
            Expiry::Never => false,
            Expiry::Idle(seconds) => now >= self.touched + seconds * 1_000,
            Expiry::At(at) => now >= at.as_millis(),
        }
    }

    fn over(&self, now: u64) -> bool {
        self.deleted || self.expired(now)
    }

    fn touch(&mut self, now: u64) {
        if let Expiry::Idle(seconds) = self.expiry
            && now >= self.touched + seconds * 100
        {
            self.touched = now;
        }
    }

    pub(super) fn tail(&self) -> u64 {
        self.items.len() as u64
    }

    fn offset(&self, position: u64) -> Offset {
        Offset::at(position).of_incarnation(self.incarnation)
    }

    fn put(&mut self, body: &[u8]) {
        let items = self.items_of(body);
        if !items.is_empty() {
            self.starts.insert(self.tail());
        }
        self.items.extend(items);
    }

    /// Whether a page of bytes may end here.
    pub(super) fn is_between_appends(&self, position: u64) -> bool {
        self.media.is_json() || position == self.tail() || self.starts.contains(&position)
    }

    /// Items of the longest append.
    pub(super) fn longest_append(&self) -> u64 {
        let ends = self.starts.iter().skip(1).copied().chain([self.tail()]);
        let lengths = self.starts.iter().zip(ends).map(|(start, end)| end - start);
        lengths.max().unwrap_or_default()
    }

    pub(super) fn body(&self, from: u64, to: u64) -> Vec<u8> {
        let separator: &[u8] = if self.media.is_json() { b"," } else { b"" };
        self.items[from as usize..to as usize].join(separator)
    }

    fn items_of(&self, body: &[u8]) -> Vec<Vec<u8>> {
        if !self.media.is_json() {
            return body.iter().map(|byte| vec![*byte]).collect();
        }
        match serde_json::from_slice(body).unwrap() {
            serde_json::Value::Array(all) => all.iter().map(|it| it.to_string().into()).collect(),
            one => vec![one.to_string().into()],
        }
    }

    /// Asserts that an engine's view agrees, apart from its generation.
    pub(super) fn assert_is(&self, view: &StreamProperties) {
        let expected = StreamProperties {
            media_type: self.media.clone(),
            next: self.offset(self.tail()),
            closed: self.closed,
            expiry: self.expiry,
            expiry_text: view.expiry_text.clone(),
            generation: view.generation.clone(),
        };
        assert_eq!(*view, expected);
    }
}

impl Model {
    pub(super) fn live(&mut self, stream: usize, now: u64) -> Result<&mut Stream, Refusal> {
        match self.streams.get_mut(&stream) {
            None => Err(Refusal::Unknown),
            Some(it) if it.deleted => Err(Refusal::Gone),
            Some(it) if it.expired(now) && it.references.is_empty() => Err(Refusal::Unknown),
            Some(it) if it.expired(now) => Err(Refusal::Gone),
            Some(it) => Ok(it),
        }
    }

    /// Returns whether the stream is new.
    pub(super) fn create(
        &mut self,
        stream: usize,
        call: &Create,
        now: u64,
    ) -> Result<bool, Refusal> {
        match self.live(stream, now) {
            Ok(it) => return it.compare(call).map(|()| false),
            Err(Refusal::Gone) => return Err(Refusal::Taken),
            Err(_) => {}
        }
        self.generations += 1;
        let generation = self.generations;
        let mut made = match &call.fork {
            None => Stream::new(call, generation, now),
            Some(fork) => self.branch(call, fork, generation, now)?,
        };
        if !call.body.is_empty() {
            made.put(&call.body);
        }
        made.closed = call.closed;
        let past = self.past.remove(&stream).unwrap_or_default();
        let expired = self.streams.get(&stream);
        let past = expired.map_or(past, |expired| expired.incarnation + 1);
        made.incarnation = made.incarnation.max(past);
        if let Some((source, ..)) = made.branch {
            self.streams
                .get_mut(&source)
                .unwrap()
                .references
                .insert(generation);
        }
        if let Some(expired) = self.streams.insert(stream, made) {
            self.unreleased.extend(expired.reference_to_source());
        }
        Ok(true)
    }

    fn branch(
        &mut self,
        call: &Create,
        fork: &Fork,
        generation: u64,
        now: u64,
    ) -> Result<Stream, Refusal> {
        let number = number_of(&fork.source);
        let source = match self.live(number, now) {
            Ok(source) => source,
            Err(Refusal::Gone) => return Err(Refusal::SourceGone),
            Err(_) => return Err(Refusal::NoSource),
        };
        let base = fork.at.map_or(source.tail(), Offset::position);
        let at = base.saturating_add(fork.beyond);
        if at > source.tail() || fork.at.is_some_and(|at| !source.has(at)) {
            return Err(Refusal::NoSuchPlace);
        }
        let mut made = Stream::new(call, generation, now);
        match &call.media_type {
            None => made.media = source.media.clone(),
            Some(media) if media.essence() == source.media.essence() => {}
            Some(_) => return Err(Refusal::SourceType),
        }
        if call.expiry.is_none() {
            made.expiry = source.expiry;
            made.inherited = true;
        }
        made.items = source.items[..at as usize].to_vec();
        made.starts = source.starts.range(..at).copied().collect();
        made.incarnation = source.incarnation;
        made.branch = Some((number, base, fork.beyond));
        Ok(made)
    }

    pub(super) fn append(
        &mut self,
        stream: usize,
        call: &Append,
        now: u64,
    ) -> Result<Appended, Refusal> {
        if call.body.is_empty() && !call.close {
            return Err(Refusal::Empty);
        }
        let it = self.live(stream, now)?;
        let next = it.offset(it.tail());
        if let Some(media) = &call.media_type
            && !call.body.is_empty()
            && !it.closed
            && media.essence() != it.media.essence()
        {
            return Err(Refusal::OtherType);
        }
        let mut answer = Appended {
            next,
            closed: it.closed,
            repeated: true,
            producer: None,
        };
        if let Some(producer) = &call.producer {
            let kept = it.producers.get(&producer.id).copied();
            let (epoch, last) = kept.unwrap_or((producer.epoch, u64::MAX));
            let expected = last.wrapping_add(1);
            if producer.epoch < epoch {
                return Err(Refusal::Fenced { epoch });
            }
            if producer.epoch == epoch && kept.is_some() && producer.seq <= last {
                answer.producer = Some((epoch, last));
                it.touch(now);
                return Ok(answer);
            }
            let fits = producer.epoch == epoch && producer.seq == expected;
            let starts = producer.epoch > epoch && producer.seq == 0;
            match (fits || starts, it.closed) {
                (_, true) => return Err(Refusal::Closed { next }),
                (true, false) => {}
                (false, false) if producer.epoch > epoch => return Err(Refusal::EpochStart),
                (false, false) => {
                    let received = producer.seq;
                    return Err(Refusal::Gap { expected, received });
                }
            }
        } else if it.closed {
            if !call.body.is_empty() {
                return Err(Refusal::Closed { next });
            }
            it.touch(now);
            return Ok(answer);
        }
        if !call.body.is_empty() {
            if call.seq.is_some() && call.seq <= it.seq {
                return Err(Refusal::Seq);
            }
            it.put(&call.body);
            it.seq = call.seq.clone().or(it.seq.take());
        }
        if let Some(producer) = &call.producer {
            let kept = (producer.epoch, producer.seq);
            it.producers.insert(producer.id.clone(), kept);
            answer.producer = Some(kept);
        }
        it.closed |= call.close;
        it.touched = now;
        answer.next = it.offset(it.tail());
        answer.closed = it.closed;
        answer.repeated = false;
        Ok(answer)
    }

    /// Returns where the page begins, and the stream.
    pub(super) fn read(
        &mut self,
        stream: usize,
        call: &Read,
        now: u64,
    ) -> Result<(u64, &Stream), Refusal> {
        let it = self.live(stream, now)?;
        let start = match call.from {
            From::Start => 0,
            From::Now => it.tail(),
            From::At(offset) if !it.has(offset) => return Err(Refusal::Anew),
            From::At(offset) if offset.position() >= it.tail() => it.tail(),
            From::At(offset) if it.media.is_json() || offset.is_inside() => offset.position(),
            From::At(offset) => {
                let start = it.starts.range(..=offset.position()).next_back();
                *start.expect("an append begins at the beginning")
            }
        };
        it.touch(now);
        Ok((start, it))
    }

    pub(super) fn delete(&mut self, stream: usize, now: u64) -> Result<Deleted, Refusal> {
        self.live(stream, now)?;
        Ok(self.end(stream))
    }

    fn end(&mut self, stream: usize) -> Deleted {
        let it = self.streams.get_mut(&stream).unwrap();
        if !it.references.is_empty() {
            it.deleted = true;
            return Deleted::Kept;
        }
        let gone = self.streams.remove(&stream).unwrap();
        self.past.insert(stream, gone.incarnation + 1);
        self.unreleased.extend(gone.reference_to_source());
        Deleted::Destroyed
    }

    /// Ends expired streams, and releases the sources of ended forks.
    pub(super) fn tidy(&mut self, now: u64) {
        loop {
            let expired = |it: &Stream| it.expired(now) && !it.deleted;
            let expired = self.streams.iter().find(|(_, it)| expired(it));
            if let Some(stream) = expired.map(|(stream, _)| *stream) {
                self.end(stream);
                continue;
            }
            let Some((source, reference)) = self.unreleased.pop() else {
                return;
            };
            let it = self.streams.get_mut(&source).unwrap();
            assert!(it.references.remove(&reference));
            if it.over(now) && it.references.is_empty() {
                self.end(source);
            }
        }
    }
}

impl Stream {
    fn has(&self, offset: Offset) -> bool {
        offset.position() == 0 || offset.incarnation() == self.incarnation
    }

    fn new(call: &Create, generation: u64, now: u64) -> Self {
        let media = call.media_type.clone();
        Self {
            media: media.unwrap_or_else(|| MediaType::new("application/octet-stream")),
            items: Vec::new(),
            starts: BTreeSet::new(),
            incarnation: 0,
            closed: false,
            expiry: call.expiry.unwrap_or(Expiry::Never),
            inherited: false,
            touched: now,
            deleted: false,
            generation,
            references: BTreeSet::new(),
            branch: None,
            seq: None,
            producers: BTreeMap::new(),
        }
    }

    fn reference_to_source(&self) -> Option<(usize, u64)> {
        self.branch.map(|(source, ..)| (source, self.generation))
    }

    fn compare(&self, call: &Create) -> Result<(), Refusal> {
        let exists = |what: &str| Err(Refusal::Exists { what: what.into() });
        let fork = call.fork.as_ref();
        let octets = MediaType::new("application/octet-stream");
        let media = match (&call.media_type, fork) {
            (Some(media), _) => media,
            (None, Some(_)) => &self.media,
            (None, None) => &octets,
        };
        if media.essence() != self.media.essence() {
            return exists("media type");
        }
        let expiry_differs = match (call.expiry, fork) {
            (None, Some(_)) => !self.inherited,
            (asked, _) => asked.unwrap_or(Expiry::Never) != self.expiry,
        };
        if expiry_differs {
            return exists("time to live");
        }
        if call.closed != self.closed {
            return exists("closed status");
        }
        let same = match (fork, self.branch) {
            (None, None) => true,
            (Some(fork), Some((source, at, beyond))) => {
                fork.source == name(source)
                    && fork.at.is_none_or(|asked| asked.position() == at)
                    && fork.beyond == beyond
            }
            (Some(_), None) | (None, Some(_)) => false,
        };
        if same { Ok(()) } else { exists("source") }
    }
}

/// The part of an engine's result that the model predicts.
pub(super) fn is_fresh(created: Result<Created, Refusal>) -> Result<bool, Refusal> {
    created.map(|created| created.fresh)
}

pub(super) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}
