/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/takeover.h"
#include "fs/entry.h"
#include "fs/fault.h"
#include "fs/open.h"
#include "fs/opname.h"
#include "fs/ops.h"
#include "fs/repeat.h"
#include "fs/session.h"
#include "fs/thread.h"

#include <errno.h>
#include <string.h>
#include <signal.h>
#include <sys/uio.h>

#define NOTIFY_RESEND 7

/*
 * A request that kills its worker would be sent again for ever, so one that was in hand at two deaths gets EIO. But
 * SIGKILL comes from outside: no request causes it, so it takes eight of those; and one that waits for I/O or for room in
 * swap is there at each death for no other reason than that it takes long.
 */
#define BLAME_CRASH   32u
#define BLAME_KILLED  8u
#define BLAME_WAITING 1u
#define BLAME_EIO     64u

struct spm_recovered {
	struct spm_recovered *next;
	uint32_t slot; /* SPM_SLOTS: none had it */
	size_t len;
	char data[];
};

void spm_takeover_init(struct spm_takeover *to)
{
	memset(to, 0, sizeof(*to));
	pthread_mutex_init(&to->lock, NULL);
	to->last = &to->first;
}

static bool is_left(const struct spm_desks *d, uint32_t i)
{
	return d->state->hold[i].stage != SPM_STAGE_FREE && d->state->hold[i].generation != d->generation;
}

int spm_takeover_settle(struct spm_fs *fs)
{
	struct spm_desks *d = &fs->desks;

	for (uint32_t i = 0; i < SPM_SLOTS; i++) {
		struct spm_ledger *l = &d->desk[i].ledger;

		if (d->state->hold[i].stage >= SPM_STAGES) {
			spm_log(SPM_LOG_ERR, "slot %u: its stage is damaged; the slot was cleared", i);
			memset(&d->desk[i], 0, sizeof(d->desk[i]));
			d->state->hold[i].stage = SPM_STAGE_FREE;
		}
		if (spm_itable_settle(&fs->itable, l) || l->entry[SPM_ENTRY_LOOKUPS] > SPM_BUFFER_IDS ||
		    l->entry[SPM_ENTRY_OPENED] > SPM_COUNTS) {
			spm_log(SPM_LOG_ERR, "slot %u: its ledger is damaged; counts of a %s request may be off", i,
				spm_opname(d->state->hold[i].opcode));
			memset(l, 0, sizeof(*l));
		}
	}
	return spm_itable_scan(&fs->itable);
}

/* -- 2: INIT -- */

static int replay_init(struct spm_fs *fs)
{
	const struct spm_state *s = fs->desks.state;
	struct fuse_buf buf = { .mem = spm_self->buf, .size = s->init_request_len };

	if (s->init_request_len > SPM_INIT_ROOM || s->init_reply_len > SPM_INIT_ROOM)
		return -EPROTO;
	memcpy(buf.mem, s->init_request, buf.size);
	buf.size = spm_wire_request(buf.mem, buf.size, &fs->init, &spm_self->wire);
	fuse_session_process_buf(fs->se, &buf);
	if (!fs->init.done || fs->init_differs)
		return -EPROTO;
	/* the last worker may have died before it sent the reply; if it has not, this one is not taken */
	if (write(fs->dev_fd, s->init_reply, s->init_reply_len) >= 0)
		spm_log(SPM_LOG_INFO, "%s: the first request was still unanswered", fs->opts->mountpoint);
	return 0;
}

/* -- 3: what was unanswered -- */

static int send_resend(struct spm_fs *fs)
{
	struct fuse_out_header h = { .len = sizeof(h), .error = NOTIFY_RESEND };

	if (fs->opts->no_resend)
		return -ENOSYS;
	return write(fs->dev_fd, &h, sizeof(h)) == sizeof(h) ? 0 : -errno;
}

static int append(struct spm_takeover *to, const void *data, size_t len)
{
	struct spm_recovered *r = malloc(sizeof(*r) + len);

	if (!r)
		return -ENOMEM;
	*r = (struct spm_recovered){ .slot = SPM_SLOTS, .len = len };
	memcpy(r->data, data, len);
	*to->last = r;
	to->last = &r->next;
	atomic_fetch_add(&to->left, 1);
	return 0;
}

/* Reads until the first request that was not sent before. */
static int read_resent(struct spm_fs *fs)
{
	const struct fuse_in_header *h = spm_self->buf;
	int rc = 0;

	/* in between a client that is killed can have its request given up; "unknown:resent", as no request is in hand */
	spm_self->hold->opcode = 0;
	if (spm_faults_on())
		spm_fault_hit("resent");
	while (!rc) {
		ssize_t n = spm_session_read(fs, spm_self);

		if (n == -EAGAIN)
			break;
		if (n <= 0)
			return n ? (int)n : -ENODEV;
		if (h->opcode == FUSE_FORGET || h->opcode == FUSE_BATCH_FORGET) {
			spm_session_answer(fs, spm_self, (size_t)n);
			continue;
		}
		if (h->opcode == FUSE_INTERRUPT)
			continue; /* nothing here can be interrupted */
		rc = append(&fs->takeover, spm_self->buf, (size_t)n);
		if (!(h->unique & SPM_FUSE_UNIQUE_RESEND))
			break;
	}
	spm_desk_reading(spm_self);
	return rc;
}

/* -- 4: which slot had it -- */

static void undo(struct spm_fs *fs, uint32_t slot, unsigned int how)
{
	struct spm_desk *desk = &fs->desks.desk[slot];
	struct spm_book b = { .ledger = &desk->ledger, .ids = spm_desk_ids(&fs->desks, slot), .ids_max = SPM_BUFFER_IDS };
	uint32_t n = b.ledger->entry[SPM_ENTRY_LOOKUPS], opened = b.ledger->entry[SPM_ENTRY_OPENED];

	if (how & SPM_REPEAT_UNDO_OPEN && opened) {
		struct spm_inode *rec = spm_itable_get(&fs->itable, b.ledger->opened_id);

		if (rec)
			spm_itable_count(&fs->itable, rec, (enum spm_count)(opened - 1), -1, &b, SPM_ENTRY_OPENED, 0);
	}
	while (how & SPM_REPEAT_UNDO_LOOKUPS && n) {
		n--;
		spm_forget_noted(fs, b.ids[n], 1, &b, SPM_ENTRY_LOOKUPS, n);
	}
}

static int answer_eio(struct spm_fs *fs, uint64_t unique)
{
	struct fuse_out_header h = { .len = sizeof(h), .error = -EIO, .unique = unique };

	if (write(fs->dev_fd, &h, sizeof(h)) != sizeof(h))
		return -errno;
	atomic_fetch_add(&fs->desks.state->answered, 1);
	return 0;
}

static uint32_t find_slot(const struct spm_desks *d, uint64_t unique)
{
	for (uint32_t i = 0; i < SPM_SLOTS; i++)
		if (is_left(d, i) && d->desk[i].unique == unique)
			return i;
	return SPM_SLOTS;
}

/* True: it gets EIO instead of another worker. */
static bool is_poison(struct spm_fs *fs, const struct spm_recovered *r)
{
	const struct fuse_in_header *h = (const void *)r->data;
	const struct spm_desk *d = &fs->desks.desk[r->slot];

	if (d->blame < BLAME_EIO)
		return false;
	spm_log(SPM_LOG_ERR, "%s: a %s request on node %llx was in hand each time the last workers died: it is answered "
		"with EIO", fs->opts->mountpoint, spm_opname(h->opcode), (unsigned long long)h->nodeid);
	if (answer_eio(fs, h->unique))
		spm_log(SPM_LOG_WARNING, "%s: that answer was not taken: %m", fs->opts->mountpoint);
	return true;
}

static void sort_resent(struct spm_fs *fs)
{
	struct spm_desks *d = &fs->desks;
	struct spm_recovered **p = &fs->takeover.first, *r;

	while ((r = *p)) {
		const struct fuse_in_header *h = (const void *)r->data;
		const struct spm_repeat_row *row = spm_repeat_row(h->opcode);

		if (h->unique & SPM_FUSE_UNIQUE_RESEND)
			r->slot = find_slot(d, h->unique & ~SPM_FUSE_UNIQUE_RESEND);
		if (r->slot < SPM_SLOTS && row)
			undo(fs, r->slot, row->how);
		if (r->slot < SPM_SLOTS && is_poison(fs, r)) {
			*p = r->next;
			free(r);
			atomic_fetch_sub(&fs->takeover.left, 1);
			continue;
		}
		if (r->slot < SPM_SLOTS)
			fs->takeover.matched[r->slot / 64] |= UINT64_C(1) << r->slot % 64;
		p = &r->next;
	}
	fs->takeover.last = p;
}

static void forget_name(struct spm_fs *fs, uint32_t slot);

static bool is_matched(const struct spm_fs *fs, uint32_t slot)
{
	return fs->takeover.matched[slot / 64] >> slot % 64 & 1;
}

/* A death while a thread took a request up leaves two slots with it, see spm_takeover_next(). */
static bool is_other_slots(const struct spm_fs *fs, uint32_t slot)
{
	for (uint32_t i = 0; i < SPM_SLOTS; i++)
		if (i != slot && is_matched(fs, i) && fs->desks.desk[i].unique == fs->desks.desk[slot].unique)
			return true;
	return false;
}

/* A backing id that was being closed: no record names it any more. */
static void finish_close(struct spm_fs *fs, struct spm_desk *desk)
{
	if (desk->closing_id > 0)
		spm_wire_backing_close(fs->dev_fd, desk->closing_id);
	desk->closing_id = 0;
}

/* Works once more on the request in a slot, whose answer nobody may wait for. */
static void run_again(struct spm_fs *fs, uint32_t slot)
{
	const struct fuse_in_header *h = spm_desk_buffer(&fs->desks, slot);
	size_t len = h->len;

	if (len < sizeof(*h) || len > SPM_WIRE_BUFSIZE)
		return; /* damaged */
	finish_close(fs, &fs->desks.desk[slot]);
	spm_desk_reading(spm_self);
	memcpy(spm_self->buf, h, len);
	*spm_self->desk = fs->desks.desk[slot];
	spm_desk_begin(spm_self);
	spm_state_barrier();
	spm_desk_clear(&fs->desks, slot);
	spm_session_answer(fs, spm_self, len);
}

/*
 * A request that does not come again though it was not answered: its client was killed, and the kernel gave it up
 * between FUSE_NOTIFY_RESEND and our reading it. It may have begun, which is as good as if the client had been killed
 * a moment later; but what it counted is the kernel's no more, and half a rename is nobody's. Nothing has been served
 * since its worker died, so what it was working on is as it was.
 */
static void give_up(struct spm_fs *fs, uint32_t i)
{
	struct spm_desks *d = &fs->desks;
	const struct spm_repeat_row *row = spm_repeat_row(d->state->hold[i].opcode);

	if (!row || d->state->hold[i].stage != SPM_STAGE_WAITING || is_matched(fs, i) || d->desk[i].blame >= BLAME_EIO ||
	    is_other_slots(fs, i))
		return;
	undo(fs, i, row->how);
	if (row->how & SPM_REPEAT_FINISH && (d->desk[i].begun || d->state->hold[i].opcode == FUSE_RELEASE))
		run_again(fs, i);
	else if (row->how & SPM_REPEAT_NAME)
		forget_name(fs, i);
}

/* Without RESEND: the requests themselves are lost, but who waits for them is known. */
static void give_up_held(struct spm_fs *fs)
{
	struct spm_desks *d = &fs->desks;

	for (uint32_t i = 0; i < SPM_SLOTS; i++) {
		const struct fuse_in_header *h = spm_desk_buffer(d, i);
		const struct spm_hold *hold = &d->state->hold[i];
		const struct spm_repeat_row *row = spm_repeat_row(hold->opcode);
		uint64_t unique = d->desk[i].unique;

		if (!is_left(d, i) || (hold->stage == SPM_STAGE_READING && !h->len))
			continue;
		if (hold->stage == SPM_STAGE_READING) { /* read, and not looked at yet */
			unique = h->unique;
			row = spm_repeat_row(h->opcode);
		}
		if (!unique || (row && row->how & SPM_REPEAT_LOST))
			continue;
		/* half a rename is nobody's, and a file stays open until its release is counted */
		if (row && row->how & SPM_REPEAT_FINISH && hold->stage == SPM_STAGE_WAITING && d->desk[i].blame < BLAME_EIO &&
		    (d->desk[i].begun || hold->opcode == FUSE_RELEASE)) {
			run_again(fs, i);
			continue;
		}
		/* ENOENT: it had been answered after all, and what it counted stands */
		if (answer_eio(fs, unique) || hold->stage == SPM_STAGE_READING || !row)
			continue;
		undo(fs, i, row->how);
		if (row->how & SPM_REPEAT_NAME)
			forget_name(fs, i);
	}
}

/* -- 5 -- */

static void blame(struct spm_fs *fs)
{
	struct spm_state *s = fs->desks.state;
	uint32_t points = !s->death_signal ? 0 : s->death_signal == SIGKILL && !s->death_hung ? BLAME_KILLED : BLAME_CRASH;

	for (uint32_t i = 0; i < SPM_SLOTS; i++) {
		if (!is_left(&fs->desks, i) || s->hold[i].stage != SPM_STAGE_HELD)
			continue; /* (an answer that is being written is all done) */
		fs->desks.desk[i].blame += points == BLAME_KILLED && s->hold[i].flags & SPM_HOLD_SLOW ? BLAME_WAITING : points;
		/* if this worker dies before it takes the request up, that is not the request's fault */
		s->hold[i].stage = SPM_STAGE_WAITING;
	}
}

/* A forget has no answer, so the kernel does not send it again: its worker had it, and it alone. */
static void finish_forget(struct spm_fs *fs, uint32_t slot)
{
	const struct fuse_in_header *h = spm_desk_buffer(&fs->desks, slot);
	const struct fuse_forget_in *one = (const void *)(h + 1);
	const struct fuse_batch_forget_in *batch = (const void *)(h + 1);
	const struct fuse_forget_one *entry = (const void *)(batch + 1);
	struct spm_desk *desk = &fs->desks.desk[slot];
	struct spm_book b = { .ledger = &desk->ledger, .ids = spm_desk_ids(&fs->desks, slot), .ids_max = SPM_BUFFER_IDS };
	uint32_t done = desk->ledger.entry[SPM_ENTRY_SETTLED];

	if (h->len < sizeof(*h) + sizeof(*batch) || h->len > SPM_WIRE_BUFSIZE || desk->blame >= BLAME_EIO)
		return; /* damaged, or what kills each worker: the inodes stay known until umount */
	if (h->opcode == FUSE_FORGET && !done)
		spm_forget_noted(fs, h->nodeid, one->nlookup, &b, SPM_ENTRY_SETTLED, 1);
	if (h->opcode != FUSE_BATCH_FORGET)
		return;
	for (; done < batch->count && (const char *)(entry + done + 1) <= (const char *)h + h->len; done++)
		spm_forget_noted(fs, entry[done].nodeid, entry[done].nlookup, &b, SPM_ENTRY_SETTLED, done + 1);
}

/* What a request had begun, whether or not it comes again. */
static void tidy_slot(struct spm_fs *fs, uint32_t i)
{
	const struct spm_hold *hold = &fs->desks.state->hold[i];
	const struct fuse_in_header *h = spm_desk_buffer(&fs->desks, i);
	struct spm_desk *desk = &fs->desks.desk[i];
	const struct spm_repeat_row *row = spm_repeat_row(h->opcode);

	if (h->len && row && row->how & SPM_REPEAT_LOST)
		finish_forget(fs, i);
	finish_close(fs, desk);
	if (!desk->begun || hold->stage == SPM_STAGE_READING)
		return;
	/* the kernel may have been told too little: what it caches of these may be old */
	spm_fresh_void(fs, h->nodeid);
	if (desk->other)
		spm_fresh_void(fs, desk->other);
}

/* -- names of which the kernel may remember the wrong thing -- */

struct spm_stale_name {
	struct spm_stale_name *next;
	uint64_t parent;
	char name[SPM_NAME_MAX + 1];
};

/* Where the name stands in a request, behind its header; 0: it has none. */
static size_t name_offset(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_MKDIR:
		return sizeof(struct fuse_mkdir_in);
	case FUSE_MKNOD:
		return sizeof(struct fuse_mknod_in);
	case FUSE_LINK:
		return sizeof(struct fuse_link_in);
	case FUSE_CREATE:
		return sizeof(struct fuse_create_in);
	default: /* UNLINK, RMDIR, SYMLINK */
		return 0;
	}
}

/*
 * A request on a name that ends without the kernel's hearing of its effect: what it caches of the name may be wrong for
 * ever. Told to it later, when requests are served again, since it takes the directory's lock for that.
 */
static void forget_name(struct spm_fs *fs, uint32_t slot)
{
	const struct fuse_in_header *h = spm_desk_buffer(&fs->desks, slot);
	size_t at = sizeof(*h) + name_offset(fs->desks.state->hold[slot].opcode), n;
	struct spm_stale_name *s;

	if (h->len <= at || h->len > SPM_WIRE_BUFSIZE)
		return;
	n = strnlen((const char *)h + at, h->len - at);
	s = n && n <= SPM_NAME_MAX ? calloc(1, sizeof(*s)) : NULL;
	if (!s)
		return;
	s->parent = h->nodeid;
	memcpy(s->name, (const char *)h + at, n);
	s->next = fs->takeover.stale;
	fs->takeover.stale = s;
}

void spm_takeover_tell(struct spm_fs *fs)
{
	while (fs->takeover.stale) {
		struct spm_stale_name *s = fs->takeover.stale;

		fs->takeover.stale = s->next;
		(void)fuse_lowlevel_notify_inval_entry(fs->se, s->parent, s->name, strlen(s->name));
		free(s);
	}
}

struct survey {
	struct spm_fs *fs;
	uint32_t lost_id; /* made by the dead worker, for an inode that knows nothing of it */
	long long direct, mirror;
};

static void survey_record(struct spm_inode *rec, void *arg)
{
	struct survey *s = arg;
	struct spm_fs *fs = s->fs;

	s->direct += rec->open_plain + rec->open_served;
	s->mirror += rec->open_mirror;
	if (!spm_inode_backing(rec))
		return;
	if ((uint32_t)spm_inode_backing(rec) == s->lost_id)
		s->lost_id = 0;
	if (rec->open_plain || rec->open_served)
		return;
	if (fs->idle_backings.at < SPM_IDLE_BACKINGS) {
		uint32_t index = (uint32_t)(rec - fs->itable.records);

		fs->idle_backings.nodeid[fs->idle_backings.at++] = (uint64_t)rec->seq << 32 | index;
	} else {
		spm_wire_backing_close(fs->dev_fd, spm_inode_backing(rec));
		spm_inode_set_backing(rec, 0);
	}
}

static void survey(struct spm_fs *fs)
{
	struct spm_state *st = fs->desks.state;
	struct survey s = { .fs = fs };

	if (st->backing_opening)
		s.lost_id = (uint32_t)st->backing_last + 1;
	spm_itable_each(&fs->itable, survey_record, &s);
	/* ids are given out in order */
	if (s.lost_id)
		spm_wire_backing_close(fs->dev_fd, (int)s.lost_id);
	st->backing_opening = 0;
	atomic_store(&fs->count.open_direct, s.direct);
	atomic_store(&fs->count.open_mirror, s.mirror);
}

/* Before anything is undone: what is among the orphans goes with the last count only if it is marked. */
static void mark_orphans(struct spm_fs *fs)
{
	for (uint32_t i = 0; i < SPM_SLOTS; i++) {
		const struct spm_repeat_row *row = spm_repeat_row(fs->desks.state->hold[i].opcode);
		const struct spm_desk *desk = &fs->desks.desk[i];
		const struct fuse_in_header *h = spm_desk_buffer(&fs->desks, i);
		const struct spm_inode *dir;

		if (!is_left(&fs->desks, i) || !desk->begun || !row || !(row->how & SPM_REPEAT_ORPHANS))
			continue;
		/* all that a request moves among the orphans is of the slice of its directory */
		dir = spm_itable_get(&fs->itable, h->nodeid);
		if (!dir)
			continue;
		spm_orphan_finish(fs, dir->slice, desk->a);
		spm_orphan_finish(fs, dir->slice, desk->b);
	}
}

static void tidy(struct spm_fs *fs)
{
	struct spm_desks *d = &fs->desks;

	for (uint32_t i = 0; i < SPM_SLOTS; i++) {
		if (!is_left(d, i))
			continue;
		tidy_slot(fs, i);
		if (!is_matched(fs, i))
			spm_desk_clear(d, i);
	}
	survey(fs);
}

int spm_takeover_run(struct spm_fs *fs)
{
	int rc, resend;

	if (!spm_takeover_needed(fs->desks.state)) {
		/* the last one died before it answered INIT: there is nothing else to go on with */
		(void)send_resend(fs);
		return 0;
	}
	rc = replay_init(fs);
	if (rc)
		return rc;
	blame(fs);
	rc = spm_names_rebuild(fs);
	if (rc)
		return rc;
	mark_orphans(fs);
	resend = send_resend(fs);
	fs->desks.state->resend = !resend;
	if (resend)
		give_up_held(fs);
	else
		rc = read_resent(fs);
	if (rc)
		return rc;
	sort_resent(fs);
	for (uint32_t i = 0; !resend && i < SPM_SLOTS; i++)
		if (is_left(&fs->desks, i))
			give_up(fs, i);
	tidy(fs);
	return 0;
}

ssize_t spm_takeover_next(struct spm_fs *fs, struct spm_thread *t)
{
	struct spm_takeover *to = &fs->takeover;
	struct spm_recovered *r;
	ssize_t n;

	if (!atomic_load_explicit(&to->left, memory_order_acquire))
		return 0;
	pthread_mutex_lock(&to->lock);
	r = to->first;
	if (r) {
		to->first = r->next;
		if (!to->first)
			to->last = &to->first;
		atomic_fetch_sub(&to->left, 1);
	}
	pthread_mutex_unlock(&to->lock);
	if (!r)
		return 0;
	spm_desk_reading(t);
	memcpy(t->buf, r->data, r->len);
	if (r->slot < SPM_SLOTS)
		*t->desk = fs->desks.desk[r->slot];
	spm_desk_begin(t);
	spm_state_barrier();
	/* from here on this desk is the one that counts */
	if (r->slot < SPM_SLOTS)
		spm_desk_clear(&fs->desks, r->slot);
	n = (ssize_t)r->len;
	free(r);
	return n;
}

void spm_takeover_destroy(struct spm_takeover *to)
{
	while (to->first) {
		struct spm_recovered *r = to->first;

		to->first = r->next;
		free(r);
	}
}
