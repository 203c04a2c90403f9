"""Binary layout of what drp and its workers share. Little-endian; every number at its natural alignment.

Three kinds of SysV segment:

* the pebble: event and transition slots, each a plain XTC2 dgram. Workers attach it read-only.
* the bell page: one `Bell` per waiter of drp. Workers attach it read-write; all it can do is wake or not wake.
* the worker segment, one for each incarnation of a worker, attached read-write by that worker alone:

      0            WorkerHeader (256 bytes)
      256          in-ring:  RING_DEPTH x InEntry   (64 bytes each), written by drp
      + in-ring    out-ring: RING_DEPTH x OutEntry  (64 bytes each), written by the worker
      + out-ring   arena: arena_bytes, written by the worker

Both rings are single producer, single consumer. `in_head`, `taken` and `out_head` count entries since the segment was
made and never wrap; entry n stands at n % RING_DEPTH. Every in-entry gets exactly one out-entry, in the same order.

A doorbell is a futex word and a flag. Who brings news publishes (release store of a head), fences, looks at `asleep`, and if
it is set adds one to `word` and wakes it. Who sleeps reads `word`, sets `asleep`, fences, looks at the head once more,
and only then waits on `word` with the value it read; it clears `asleep` when it is up again.

The arena is a byte ring. Positions in it count bytes since the segment was made; a position p stands at
p % arena_bytes. A block never wraps: one that would is begun at the next multiple of arena_bytes. The worker may write
[position, position + block_bytes) only while position + block_bytes - arena_tail <= arena_bytes; drp moves arena_tail up to
the end of a block once that block is recorded.

A result block (all offsets from the block's start):

      0   u32 n_drop      number of dropped NamesIds
      4   u32 n_add       number of added ShapesData
      8   u16 damage      bits 0..11 to set in the dgram's top Xtc
      10  u8  user        4-bit user damage value set by the script (0: none)
      11  u8  flags       BLOCK_WORDS: the last ShapesData is the trigger words
      12  u32 json_bytes  length of the JSON text (transitions and failures only, else 0)
      16  JSON text, UTF-8, padded with zeros to a multiple of 4
      ..  n_drop x u32    NamesIds (low 28 bits of src) whose ShapesData are left out of the record
      ..  n_add x { u32 names_index, u32 n_arrays, u64 data_bytes, n_arrays x 5 u32 shape }
      ..  zeros up to a multiple of 8: this is desc_bytes
      ..  for each added ShapesData in turn its data_bytes, with nothing between: up to block_bytes

`names_index` counts the Names the script declared, in the order of declaration, 0 the first.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    LAYOUT_VERSION = 1
    RING_DEPTH = 1024
    HEADER_BYTES = 256
    ENTRY_BYTES = 64
    BLOCK_HEADER_BYTES = 16
    MAX_DROPS = 4096
    MAX_ADDS = 1024
    MAX_L1_DESC_BYTES = 65536        # descriptor of an L1Accept's result
    MAX_DESC_BYTES = 4194304         # descriptor of a transition's or a failure's result

cdef enum:
    LAYOUT_COOKIE = 0x50524457       # "WDRP"

cdef enum EntryFlag:
    ENTRY_REPLAY = 1                 # environment for a replacement: answered, but neither recorded nor counted
    ENTRY_STOP = 2                   # no dgram: leave the event loop and exit with 0

cdef enum Status:
    STATUS_OK = 0
    STATUS_RAISED = 1                # block: JSON {"kind", "message", "traceback"}; the worker exits
    STATUS_OVERFLOW = 2              # the result did not fit; no block
    STATUS_LEFT = 3                  # the script left its event loop before EndRun; the worker exits

cdef enum BlockFlag:
    BLOCK_WORDS = 1

cdef enum WorkerState:
    STATE_RUNNING = 0
    STATE_WAITS_ENTRY = 1
    STATE_WAITS_ARENA = 2

cdef struct Bell:
    uint32_t word
    uint32_t asleep
    uint8_t pad[56]

cdef struct WorkerHeader:
    # written once by drp, before the worker attaches
    uint32_t cookie
    uint32_t version
    uint64_t arena_bytes
    uint32_t worker
    uint32_t incarnation
    uint8_t pad0[40]
    # offset 64, written by drp
    uint64_t in_head
    uint64_t arena_tail
    uint32_t bell_word               # the worker sleeps on this
    uint8_t pad1[44]
    # offset 128, written by the worker
    uint64_t taken                   # in-entries taken so far; taken - out_head is 0 or 1
    uint32_t asleep                  # the worker's half of its doorbell
    uint32_t state                   # WorkerState
    uint32_t rescued                 # sleeps that ended by their limit though there was news
    uint8_t pad2[44]
    # offset 192, written by the worker
    uint64_t out_head
    uint8_t pad3[56]

cdef struct InEntry:
    uint64_t seq                     # drp's number for the dgram; 0 with ENTRY_REPLAY and ENTRY_STOP
    uint64_t pulse_id                # 0: not known
    uint64_t index                   # L1Accepts since BeginRun, the first is 0
    uint64_t offset                  # of the dgram in the pebble
    uint32_t size_bytes              # of the dgram
    uint32_t bound_bytes             # what kept raw + new data may come to, headers included
    uint8_t service                  # TransitionId
    uint8_t flags                    # EntryFlag
    uint8_t pad[22]

cdef struct OutEntry:
    uint64_t seq                     # that of the in-entry it answers
    uint64_t position                # of the result block in the arena
    uint32_t block_bytes             # 0: nothing edited, nothing added
    uint32_t desc_bytes
    uint32_t status                  # Status
    uint32_t service_ns              # from taking to answering, waits for drp left out; at most 2^32 - 1
    uint8_t pad[32]
