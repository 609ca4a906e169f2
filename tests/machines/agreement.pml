/* The agreement of a supervisor and N workers over a journal, with crashes, for spin.
 *
 * Every line between "begin" and "end" of a table is put in by promela.py from the tables that the
 * server itself uses, so the model can't drift from it. By hand: channels, crashes, and what the
 * acts do. `python -m tests.machines.promela` prints the whole; docs/mechanism.md tells how to run it.
 *
 * A version is the number of the transaction that brought it, a set of versions a byte of bits.
 * A worker dies alone; with the supervisor all workers die (netswap/worker/kinship.py), and what
 * was on its way is gone. LOSSES and DOUBLES are messages that a harsher network loses or doubles.
 *
 * Nobody has to go on: a worker that stands still, wherever, is one whose next step is not taken.
 * There is one clock, and all that it says is whether the time to begin a swap is over. A Begun is
 * a bit, set when it is in the supervisor's socket: it asks for nothing, and that the supervisor
 * does not look past what is there, read or not, is READS_FIRST. That, LOOKS and WAITS are what makes
 * it right to pass over a worker that has not begun; they can be left out, and have to be missed.
 */
#ifndef N
#define N 2
#endif
#ifndef TRANSACTIONS
#define TRANSACTIONS 2
#endif
#ifndef WORKER_CRASHES
#define WORKER_CRASHES 1
#endif
#ifndef SUPERVISOR_CRASHES
#define SUPERVISOR_CRASHES 1
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef DOUBLES
#define DOUBLES 0
#endif
#ifndef PLAIN
#define PLAIN 0       /* no canary, no watch, nothing held */
#endif
#ifndef LOOKS_FIRST
#define LOOKS_FIRST 1 /* a worker looks at the clock when it has read a swap */
#endif
#ifndef LOOKS_AGAIN
#define LOOKS_AGAIN 1 /* and when its Begun is in the supervisor's socket */
#endif
#ifndef READS_FIRST
#define READS_FIRST 1 /* the supervisor reads what is there before it passes somebody over */
#endif
#ifndef WAITS
#define WAITS 1       /* and does so to nobody before the time to begin is over */
#endif
#define BIT(x) (1 << (x))
#define ALL_WORKERS (BIT(N) - 1)

/* begin names */
/* end names */
mtype = { NO_SWAP, LOOKED, SAID, FLIPPING, TOO_LATE };

#define ROOM 7
chan down[N] = [ROOM] of { mtype, byte };
chan up[N] = [ROOM] of { mtype, byte };

/* the clock */
byte expired = 0;          /* the newest transaction whose swap may not be begun any more */

/* the disk */
byte committed = 0;

/* the supervisor */
byte tx = 0;
bool under_way = false, finished = false;
mtype phase = P_NOWHERE;
bool canary, watch, by_hand, at_once, swap_sent;
byte waiting = 0, live = 0, stuck = 0;
byte said = 0;             /* whose Begun of this transaction is in the socket */
bool known[N];
byte worker_crashes = WORKER_CRASHES, supervisor_crashes = SUPERVISOR_CRASHES;
byte losses = LOSSES, doubles = DOUBLES;

/* the workers */
bool alive[N];
mtype state[N] = IDLE;
mtype answer[N] = NOTHING;
byte answered[N];          /* the transaction that the last answer was about */
byte hand[N];              /* the transaction in hand, 0: none */
byte newest[N];
byte deferred[N];
byte serves[N], before[N]; /* sets of versions; before: what to go back to, 0: nothing to do */
byte mixed[N];             /* versions that the operator was told of */
mtype begins[N] = NO_SWAP; /* how far the swap under way is */
byte k; /* from here on: of one atomic step, and the same before and after it */
mtype next = P_NOWHERE, step = NO_STEP, what = NOTHING, message = NOTHING;
mtype input = NO_INPUT, result = NOTHING;
bool over, crashed;
byte about;

/* ---- what must be true at every moment ---- */

inline check() {
    k = 0;
    do
    :: k < N ->
        if
        :: alive[k] ->
            assert(len(down[k]) < ROOM && len(up[k]) < ROOM); /* no step waits in its middle */
            assert(serves[k] != 0); /* never a worker that serves neither */
            assert((serves[k] & ~(BIT(committed) | mixed[k] | (under_way -> BIT(tx) : 0))) == 0);
            assert(under_way || mixed[k] != 0 || serves[k] == BIT(committed)) /* never two sets */
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

/* ---- the coordinator ---- */

inline send_all() {
    k = 0;
    do
    :: k < N ->
        if
        :: (live & BIT(k)) && alive[k] -> down[k]!what, tx
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0; what = NOTHING
}

#define asks(p) (0 ASKING(p))
/* In the other phases nobody has an unread swap of this transaction, and the clock says nothing new.
 * One of the transaction before, which only a mixed worker can have, counts as read too late. */
#define MAY_BEGIN(p) ((p) == P_CANARY || (p) == P_SWAPPING || (p) == P_REVERTING)
#define WORKING(s) (0 WORKING_STATES(s))

inline coordinator_row() {
    if
    /* begin coordinator */
    /* end coordinator */
    :: else -> next = P_NOWHERE
    fi
}

inline detour() {
    if
    :: next == P_CANARY && !canary -> next = P_HOLDING
    :: else
    fi;
    if
    :: next == P_HOLDING && !at_once -> next = P_SWAPPING
    :: next == P_WATCHING && !watch -> next = P_COMMITTING
    :: next == P_RETURNING && !at_once -> next = P_REVERTING
    :: next == P_ABORTED || next == P_MIXED ->
        if
        :: stuck != 0 && swap_sent -> next = P_MIXED
        :: else -> next = P_ABORTED
        fi
    :: else
    fi
}

#define JOURNAL_BEGIN skip
#define JOURNAL_COMMIT skip
#define JOURNAL_ABORT assert(committed != tx)
#define SEND_PREPARE what = Prepare
#define SEND_CANARY what = SwapCanary; more_time()
#define SEND_WATCH_CANARY what = WatchCanary
#define SEND_HOLD what = Hold
#define SEND_SWAP what = Swap; more_time()
#define SEND_WATCH what = Watch
#define SEND_FINISH what = Finish
#define SEND_REVERT what = Revert
#define DONE over = true

inline more_time() { /* each swap has a later time than the one before */
    expired = tx - 1
}

inline tell() { /* the operator is told what has happened */
    assert((phase == P_COMMITTED) == (committed == tx));
    under_way = false;
    k = 0;
    do
    :: k < N ->
        if
        :: phase == P_MIXED && (stuck & BIT(k)) -> mixed[k] = mixed[k] | BIT(tx)
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0; waiting = 0; live = 0; stuck = 0; said = 0; swap_sent = false;
    canary = false; watch = false; by_hand = false; at_once = false; phase = P_NOWHERE
}

inline enter() {
    phase = next;
    swap_sent = swap_sent || phase == P_CANARY || phase == P_SWAPPING;
    waiting = (asks(phase) -> live : 0);
    expired = (MAY_BEGIN(phase) -> expired : tx);
    if
    /* begin entries */
    /* end entries */
    fi;
    if
    :: what != NOTHING -> send_all()
    :: else
    fi;
    if
    :: over -> tell(); over = false
    :: else
    fi
}

inline take() { /* what ``step`` leads to; with nobody left to ask a phase is over as it begins */
    do
    :: step != NO_STEP ->
        coordinator_row();
        if
        :: next == P_NOWHERE && step == LOST && asks(phase) && waiting == 0 -> step = ALL
        :: next == P_NOWHERE && !(step == LOST && asks(phase) && waiting == 0) -> step = NO_STEP
        :: else ->
            stuck = (step == LATE && phase == P_REVERTING -> stuck | waiting : stuck);
            detour();
            enter();
            step = (asks(phase) && waiting == 0 -> ALL : NO_STEP)
        fi
    :: else -> break
    od;
    next = P_NOWHERE
}

#define YES(i) waiting = waiting & ~BIT(i); step = (waiting != 0 -> NO_STEP : (phase == P_PROBATION && by_hand -> UNDECIDED : ALL))

inline hear(i) {
    up[i]?message, about;
    if
    :: about != tx || !under_way || !(waiting & BIT(i)) -> skip
    :: else ->
        if
        /* begin votes */
        /* end votes */
        :: else -> skip
        fi
    fi;
    message = NOTHING; about = 0
}

#define untouched(i) ((waiting & BIT(i)) && (expired == tx || !WAITS) && \
    (!READS_FIRST || (!(said & BIT(i)) && len(up[i]) == 0)))

inline pass_over(i) { /* it has not begun and never will: it serves what it served */
    waiting = waiting & ~BIT(i); step = (waiting != 0 -> NO_STEP : ALL)
}

inline lost(i) {
    known[i] = false;
    flush(i);
    live = live & ~BIT(i); waiting = waiting & ~BIT(i); stuck = stuck & ~BIT(i);
    said = said & ~BIT(i);
    step = (under_way -> LOST : NO_STEP)
}

inline boot(i) {
    alive[i] = true; known[i] = true; serves[i] = BIT(committed)
}

inline end_worker(i) {
    alive[i] = false; state[i] = IDLE; answer[i] = NOTHING;
    answered[i] = 0; hand[i] = 0; newest[i] = 0; deferred[i] = 0;
    serves[i] = 0; before[i] = 0; mixed[i] = 0; begins[i] = NO_SWAP;
    do
    :: len(down[i]) > 0 -> down[i]?message, about
    :: len(down[i]) == 0 -> break
    od;
    message = NOTHING; about = 0
}

inline end_supervisor() {
    supervisor_crashes--;
    under_way = false; phase = P_NOWHERE; waiting = 0; live = 0; stuck = 0; said = 0;
    swap_sent = false; canary = false; watch = false; by_hand = false; at_once = false;
    end_worker(0); known[0] = false; flush(0);
    end_worker(1); known[1] = false; flush(1)
}

inline flush(i) {
    do
    :: len(up[i]) > 0 -> up[i]?message, about
    :: len(up[i]) == 0 -> break
    od;
    message = NOTHING; about = 0
}

#define all_known (known[0] && known[1])
#define quiet (empty(down[0]) && empty(down[1]) && empty(up[0]) && empty(up[1]))

active proctype supervisor() {
    do
    :: atomic {
        if
        :: !under_way && all_known && tx < TRANSACTIONS ->
            tx++; expired = tx; under_way = true; live = ALL_WORKERS; phase = P_OPENING;
            if
            :: !PLAIN -> canary = true; by_hand = true
            :: !PLAIN -> canary = true
            :: !PLAIN -> watch = true
            :: !PLAIN -> at_once = true
            :: !PLAIN -> at_once = true; watch = true
            :: skip
            fi
        :: phase == P_OPENING -> step = WRITTEN
        :: phase == P_OPENING || phase == P_COMMITTING -> step = UNWRITTEN
        :: phase == P_COMMITTING -> committed = tx; step = WRITTEN
        :: phase == P_COMMITTING && supervisor_crashes > 0 -> committed = tx; crashed = true
        :: under_way && supervisor_crashes > 0 -> crashed = true
        :: len(up[0]) > 0 -> hear(0)
        :: len(up[1]) > 0 -> hear(1)
        :: under_way && expired < tx -> expired = tx
        :: phase == P_REVERTING && untouched(0) -> pass_over(0)
        :: phase == P_REVERTING && untouched(1) -> pass_over(1)
        :: asks(phase) -> step = LATE
        :: asks(phase) && phase != P_FINISHING && phase != P_REVERTING -> step = STOPPED
        :: phase == P_PROBATION || phase == P_WATCHING -> step = PROMOTED
        :: phase == P_PROBATION || phase == P_WATCHING -> step = TAKEN_BACK
        :: known[0] && !alive[0] -> lost(0)
        :: known[1] && !alive[1] -> lost(1)
        :: !under_way && !known[0] -> boot(0)
        :: !under_way && !known[1] -> boot(1)
        :: !under_way && all_known && tx == TRANSACTIONS && quiet &&
            alive[0] && alive[1] && !WORKING(state[0]) && !WORKING(state[1]) ->
            finished = true
        fi;
        if
        :: crashed -> crashed = false; end_supervisor()
        :: !crashed && step != NO_STEP -> take()
        :: else
        fi;
        check()
        }
        if
        :: finished -> break
        :: else
        fi
    od
}

/* ---- the participant ---- */

#define A_PREPARE(i) hand[i] = about; newest[i] = about; before[i] = 0
#define A_CLOSE(i) skip
#define A_SWAP(i) begins[i] = (LOOKS_FIRST && is_over(i) -> TOO_LATE : LOOKED)
#define A_WATCH(i) skip
#define A_STOP(i) skip
#define A_FINISH(i) skip
#define A_REVERT(i) skip
#define A_FORGET(i) go_back(i); before[i] = 0
#define A_ANSWER(i) up[i]!result, hand[i]; answer[i] = result; answered[i] = hand[i]
#define A_DEFER(i) deferred[i] = about
#define A_REFUSE(i) newest[i] = about; up[i]!Refused, about

#define is_over(i) (hand[i] <= expired)

inline say_begun(i) { /* the supervisor does not listen to one of another transaction */
    said = (under_way && hand[i] == tx -> said | BIT(i) : said);
    begins[i] = SAID
}

inline flip(i) { /* from the first slice on both versions serve */
    before[i] = (before[i] != 0 -> before[i] : serves[i]);
    serves[i] = serves[i] | BIT(hand[i])
}

inline go_back(i) {
    serves[i] = (before[i] != 0 -> before[i] : serves[i])
}

inline participant_row(i) {
    if
    /* begin participant */
    /* end participant */
    :: else
    fi;
    if
    :: state[i] == IDLE -> hand[i] = 0
    :: else
    fi
}

inline feed(i) {
    begins[i] = (input == I_YES || input == I_NO -> NO_SWAP : begins[i]);
    do
    :: input != NO_INPUT ->
        participant_row(i);
        input = NO_INPUT;
        if
        :: deferred[i] != 0 && !WORKING(state[i]) ->
            about = deferred[i]; deferred[i] = 0; input = (about > newest[i] -> I_NEXT : NO_INPUT)
        :: else
        fi
    :: else -> break
    od;
    result = NOTHING; message = NOTHING; about = 0
}

#define again(i) (answered[i] == about && ( \
    (message == Prepare && (answer[i] == Prepared || answer[i] == Refused)) || \
    (message == SwapCanary && answer[i] == SwappedCanary) || \
    (message == Swap && (answer[i] == Swapped || answer[i] == SwapFailed)) || \
    (message == WatchCanary && (answer[i] == WatchedCanary || answer[i] == WatchFailed)) || \
    (message == Hold && (answer[i] == Held || answer[i] == SwapFailed)) || \
    (message == Watch && (answer[i] == Watched || answer[i] == WatchFailed)) || \
    (message == Finish && answer[i] == Finished) || \
    (message == Revert && (answer[i] == Reverted || answer[i] == RevertedStuck))))

inline told(i) {
    down[i]?message, about;
    if
    :: again(i) -> up[i]!answer[i], about
    :: !again(i) && message == Prepare -> input = (about > newest[i] -> I_NEXT : NO_INPUT)
    :: !again(i) && message != Prepare && hand[i] != 0 && hand[i] == about ->
        if
        :: message == SwapCanary -> input = I_CANARY
        :: message == WatchCanary -> input = I_PROVE
        :: message == Hold -> input = I_HOLD
        :: message == Swap -> input = I_SWAP
        :: message == Watch -> input = I_WATCH
        :: message == Finish -> input = I_FINISH
        :: message == Revert -> input = I_REVERT
        fi
    :: else -> unknown(i)
    fi
}

inline unknown(i) {
    if
    :: message == Swap || message == SwapCanary || message == Hold -> up[i]!SwapFailed, about
    :: message == Watch || message == WatchCanary -> up[i]!WatchFailed, about
    :: message == Finish -> newest[i] = (about > newest[i] -> about : newest[i]); up[i]!Finished, about
    :: message == Revert -> newest[i] = (about > newest[i] -> about : newest[i]); up[i]!Reverted, about
    fi
}

#define swapping(i) (state[i] == TRYING || state[i] == SWAPPING)

inline work(i) { /* the work under way goes on, or ends, well or not */
    if
    :: swapping(i) && begins[i] == LOOKED -> say_begun(i)
    :: swapping(i) && begins[i] == SAID && LOOKS_AGAIN && is_over(i) -> begins[i] = TOO_LATE
    :: swapping(i) && begins[i] == SAID && !(LOOKS_AGAIN && is_over(i)) ->
        flip(i); begins[i] = FLIPPING
    :: state[i] == PREPARING -> result = Prepared; input = I_YES
    :: state[i] == PREPARING -> result = Refused; input = I_NO
    :: state[i] == HOLDING || state[i] == RETURNING -> result = Held; input = I_YES
    :: state[i] == RETURNING -> result = SwapFailed; input = I_NO
    :: state[i] == TRYING && begins[i] == FLIPPING -> result = SwappedCanary; input = I_YES
    :: state[i] == SWAPPING && begins[i] == FLIPPING -> serves[i] = BIT(hand[i]); result = Swapped; input = I_YES
    :: swapping(i) && (begins[i] == FLIPPING || begins[i] == TOO_LATE) ||
        state[i] == HOLDING || state[i] == STOPPING ->
        go_back(i); result = SwapFailed; input = I_NO
    :: state[i] == PROVING || state[i] == PROMOTING -> result = WatchedCanary; input = I_YES
    :: state[i] == WATCHING || state[i] == LEAVING || state[i] == TURNING ->
        result = Watched; input = I_YES
    :: state[i] == PROVING || state[i] == PROMOTING || state[i] == WATCHING ||
        state[i] == LEAVING || state[i] == TURNING -> result = WatchFailed; input = I_NO
    :: state[i] == FINISHING -> before[i] = 0; result = Finished; input = I_YES
    :: state[i] == REVERTING -> go_back(i); before[i] = 0; result = Reverted; input = I_YES
    :: state[i] == REVERTING && before[i] != 0 -> /* something can't go back */
        serves[i] = before[i] | BIT(hand[i]); before[i] = 0; result = RevertedStuck; input = I_YES
    fi
}

active [N] proctype worker() {
    byte me = _pid - 1;
    do
    :: atomic {
        if
        :: alive[me] && len(down[me]) > 0 -> told(me)
        :: alive[me] && WORKING(state[me]) -> work(me)
        fi;
        feed(me);
        check()
        }
    :: atomic { alive[me] && worker_crashes > 0 && under_way ->
        worker_crashes--; end_worker(me); check() }
    :: atomic { losses > 0 && nempty(down[me]) -> losses--; down[me]?message, about;
        message = NOTHING; about = 0 }
    :: atomic { losses > 0 && nempty(up[me]) -> losses--; up[me]?message, about;
        message = NOTHING; about = 0 }
    :: atomic { doubles > 0 && alive[me] && nempty(down[me]) && nfull(down[me]) -> doubles--;
        down[me]?<message, about>; down[me]!message, about; message = NOTHING; about = 0 }
    :: atomic { doubles > 0 && nempty(up[me]) && nfull(up[me]) -> doubles--;
        up[me]?<message, about>; up[me]!message, about; message = NOTHING; about = 0 }
    :: finished -> break
    od
}

ltl every_transaction_ends { [] (under_way -> <> !under_way) }
