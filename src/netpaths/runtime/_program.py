"""Numba source: runs the operations of a program, image by image.

An operation stands in ``code`` as its kind, where the next one stands, and its arguments.
"""

from __future__ import annotations

from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from netpaths.runtime._instructions import (
    ADD,
    AFFINE,
    CONV,
    EXPORT,
    FIXED,
    FLATTEN,
    GATE,
    HEAD,
    IMPORT,
    LINEAR,
    MEAN,
    MOVE,
    POOL,
    SLOT,
    SPAN,
    THRESHOLD,
    WORTH,
)
from netpaths.runtime._operations import (
    NORMAL,
    add,
    affine,
    choose,
    flatten,
    gate,
    give_out,
    linear,
    mean,
    move,
    phases,
    pool,
    prepare,
    take_in,
    threshold,
    tiles,
)
from netpaths.runtime._tiles import VECTOR, VECTORS, added, float_at, seen, wait, wait_for_either

PART = {**NORMAL, "inline": "always"}
"""For what others contain: compiling it alone as well would take as long again."""

IMAGES, READY, JOBS, OVER = 0, 16, 32, 48
"""Counters of a team: images taken, images done, convolutions published, and whether all is done."""

TAKEN, FINISHED = 8, 16
"""Counters of a convolution: parts taken and parts done. In front of them stand its job and its arguments."""

PARTS = 8
"""Parts of a convolution that workers share, at least."""

MANY = 4
"""Filters of such a part, at least."""


@njit(**PART)
def pieces_of(outputs, vectors, shared):
    """Into how many pieces a convolution's places and filters are cut."""
    pieces = (vectors + VECTORS - 1) // VECTORS
    blocks = 1
    if shared and pieces < PARTS:
        blocks = max(min((PARTS + pieces - 1) // pieces, outputs // MANY), 1)
    return pieces, blocks


@njit(**PART)
def convolve(program, place, memory, team):
    """CONV: as `prepare`, then taps, clamp, copies of a channel, their geometry and where they start."""
    code, weights, masks, to = program
    floats, lists = memory
    arguments = code[place:]
    if arguments[9]:
        geometry = to_fixed_tuple(arguments[10:], 6)
        phases(code, arguments[0], arguments[6], arguments[9], geometry, arguments[16], floats, lists)
    inputs, outputs = prepare(code, arguments, lists, to)
    places = code[arguments[1] + SPAN]
    big = team.size > 0 and inputs * arguments[4] * outputs * places >= WORTH
    pieces, blocks = pieces_of(outputs, places // VECTOR, big)
    job = (inputs, outputs, pieces, blocks)
    if big:
        lead(program, place, job, memory, team)
    else:
        tiles(code, arguments, job, 0, pieces * blocks, floats, weights, masks, lists, to)


@njit(**PART)
def lead(program, place, job, memory, team):
    """Publish a convolution, compute parts of it, and wait for those that others took."""
    slot = HEAD + SLOT * team[JOBS]
    team[slot], team[slot + 1], team[slot + 2], team[slot + 3] = job
    team[slot + 4] = place
    added(team, JOBS, 1)
    help_with(program, slot, memory, team)
    wait(team, slot + FINISHED, job[2] * job[3])


@njit(**PART)
def help_with(program, slot, memory, team):
    """Compute parts of a published convolution until all are taken."""
    code, weights, masks, to = program
    floats, lists = memory
    job = to_fixed_tuple(team[slot:], 4)
    arguments = code[team[slot + 4] :]
    part = added(team, slot + TAKEN, 1)
    while part < job[2] * job[3]:
        tiles(code, arguments, job, part, part + 1, floats, weights, masks, lists, to)
        added(team, slot + FINISHED, 1)
        part = added(team, slot + TAKEN, 1)


@njit(**PART)
def follow(program, memory, team):
    """Help with every convolution that is published, until there are no more."""
    done = 0
    while seen(team, OVER) == 0:
        wait_for_either(team, JOBS, done + 1, OVER)
        done = seen(team, JOBS)
        if done > 0:
            help_with(program, HEAD + SLOT * (done - 1), memory, team)


@njit(**PART)
def run(program, start, stop, memory, tensors, image, team):
    """The operations of ``code`` from ``start`` to ``stop`` on one image; ``team`` is empty for a thread alone."""
    code, weights, masks, to = program
    floats, lists = memory
    while start < stop:
        kind, place = code[start], start + 2
        arguments = code[place:]
        start = code[start + 1]
        if kind == CONV:
            convolve(program, place, memory, team)
        elif kind == MEAN:
            mean(code, arguments, floats, weights, lists)
        elif kind == LINEAR:
            linear(code, arguments, floats, weights, lists)
        elif kind == THRESHOLD:
            threshold(code, arguments, floats, lists)
        elif kind == FIXED:
            choose(code, arguments, floats, lists)
        elif kind == GATE:
            gate(code, arguments, lists, to)
        elif kind == AFFINE:
            affine(code, arguments, floats, weights, masks, lists)
        elif kind == ADD:
            add(code, arguments, floats, weights, lists, to)
        elif kind == POOL:
            pool(code, arguments, floats, weights, lists)
        elif kind == MOVE:
            move(code, arguments, floats, lists)
        elif kind == FLATTEN:
            flatten(code, arguments, floats, lists)
        elif kind == IMPORT:
            take_in(code, arguments, floats, lists, tensors, image)
        elif kind == EXPORT:
            give_out(code, arguments, floats, lists, tensors, image, to)


@njit(**NORMAL)
def work(program, start, stop, own, shared, tensors, images, alone, leads, team):
    """What a thread does of the operations from ``start`` to ``stop`` on images.

    own, shared: floats and lists of the thread, and of the one that leads.
    The first ``alone`` images are shared out; every big convolution of the others is. One thread of the team leads: it
    runs what cannot be shared, and comes back once all is done. Whether others come does not matter to it, nor when:
    it waits for nothing but what another one has begun. team: zeros, HEAD and SLOT for each convolution to share; or
    empty for a thread without others.
    """
    nobody, together = team[:0], False
    image = added(team, IMAGES, 1) if team.size > 0 else 0
    while True:
        if image >= alone and not together:
            if not leads:
                follow(program, shared, team)
                break
            if team.size > 0:
                wait(team, READY, alone)
            together, image = True, alone
        if image >= images:
            break
        run(program, start, stop, shared if together else own, tensors, image, team if together else nobody)
        if together or team.size == 0:
            image += 1
        else:
            added(team, READY, 1)
            image = added(team, IMAGES, 1)
    if leads and team.size > 0:
        added(team, OVER, 1)


@njit(**NORMAL)
def finite(tensors, slot, size):
    """Whether all of so many floats of a dense tensor are finite."""
    wrong = 0
    for place in range(size):
        value = float_at(tensors[2 * slot], place)
        wrong += value - value != 0
    return wrong == 0
