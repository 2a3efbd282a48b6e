"""Numba source: runs the operations of a program, image by image.

An operation stands in ``code`` as its kind, where the next one stands, and its arguments.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numba.np.unsafe.ndarray import to_fixed_tuple

from netpaths.decoupling._operations import (
    NORMAL,
    SPAN,
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
from netpaths.decoupling._tiles import VECTOR, VECTORS, added, float_at, seen
from netpaths.lanes import take

HEAD, SLOT = 48, 32
"""Numbers at the start of a team's memory, and for each convolution: its job, and counters on cache lines of their own."""

COME, JOBS, OVER = 0, 16, 32

TAKEN, FINISHED = 8, 16

PARTS = 8
"""Parts of a convolution that workers share, at least."""

MANY = 4
"""Filters of such a part, at least."""

WORTH = 1 << 14
"""Products of vectors from which on a convolution is shared."""

IMPORT, EXPORT, CONV, MEAN, LINEAR, THRESHOLD, FIXED, GATE, AFFINE, ADD, POOL, MOVE, FLATTEN = range(13)


@njit(**NORMAL)
def pieces_of(outputs, vectors, team):
    """Into how many pieces a convolution's places and filters are cut."""
    pieces = (vectors + VECTORS - 1) // VECTORS
    blocks = 1
    if team and pieces < PARTS:
        blocks = max(min((PARTS + pieces - 1) // pieces, outputs // MANY), 1)
    return pieces, blocks


@njit(**NORMAL)
def convolve(program, place, floats, lists, team):
    """CONV: as `prepare`, then taps, clamp, copies of a channel, their geometry and where they start."""
    code, weights, masks, to = program
    arguments = code[place:]
    if arguments[9]:
        geometry = to_fixed_tuple(arguments[10:], 6)
        phases(code, arguments[0], arguments[6], arguments[9], geometry, arguments[16], floats, lists)
    inputs, outputs = prepare(code, arguments, lists, to)
    vectors = code[arguments[1] + SPAN] // VECTOR
    big = team.size > 0 and inputs * arguments[4] * outputs * vectors > WORTH
    pieces, blocks = pieces_of(outputs, vectors, big)
    job = (inputs, outputs, pieces, blocks)
    if big:
        lead(program, place, job, floats, lists, team)
    else:
        tiles(code, arguments, job, 0, pieces * blocks, floats, weights, masks, lists, to)


@njit(**NORMAL)
def lead(program, place, job, floats, lists, team):
    """Publish a convolution, compute parts of it, and wait for those that others took."""
    slot = HEAD + SLOT * team[JOBS]
    team[slot], team[slot + 1], team[slot + 2], team[slot + 3] = job
    team[slot + 4] = place
    added(team, JOBS, 1)
    help_with(program, slot, floats, lists, team)
    while seen(team, slot + FINISHED) < job[2] * job[3]:
        pass


@njit(**NORMAL)
def help_with(program, slot, floats, lists, team):
    """Compute parts of a published convolution until all are taken."""
    code, weights, masks, to = program
    job = to_fixed_tuple(team[slot:], 4)
    arguments = code[team[slot + 4] :]
    part = added(team, slot + TAKEN, 1)
    while part < job[2] * job[3]:
        tiles(code, arguments, job, part, part + 1, floats, weights, masks, lists, to)
        added(team, slot + FINISHED, 1)
        part = added(team, slot + TAKEN, 1)


@njit(**NORMAL)
def follow(program, floats, lists, team):
    """Help with every convolution that is published, until there are no more."""
    done = 0
    while seen(team, OVER) == 0:
        jobs = seen(team, JOBS)
        if jobs > done:
            help_with(program, HEAD + SLOT * (jobs - 1), floats, lists, team)
            done = jobs


@njit(**NORMAL)
def run(program, start, stop, floats, lists, tensors, image, team):
    """The operations of ``code`` from ``start`` to ``stop`` on one image; ``team`` is empty for a thread alone."""
    code, weights, masks, to = program
    while start < stop:
        kind, place = code[start], start + 2
        arguments = code[place:]
        start = code[start + 1]
        if kind == CONV:
            convolve(program, place, floats, lists, team)
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
def run_alone(program, start, stop, floats, lists, tensors, images):
    """One thread runs all images."""
    team = np.empty(0, np.int64)
    for image in range(images):
        run(program, start, stop, floats, lists, tensors, image, team)


@njit(cache=True, nogil=True, parallel=True)
def run_together(program, start, stop, floats, lists, tensors, images, counters, workers):
    """Workers take images from a shared counter, which starts at 0; each has its own part of floats and lists."""
    team = np.empty(0, np.int64)
    room, length = floats.size // workers, lists.size // workers
    for worker in prange(workers):
        own = floats[worker * room : (worker + 1) * room]
        listed = lists[worker * length : (worker + 1) * length]
        image = take(counters, 0, 1)
        while image < images:
            run(program, start, stop, own, listed, tensors, image, team)
            image = take(counters, 0, 1)


@njit(cache=True, nogil=True, parallel=True)
def run_team(program, start, stop, floats, lists, tensors, image, team, workers):
    """Workers share every big convolution of one image; the first one to come runs the rest alone.

    It waits for nothing but parts that another one is computing, so that any number of workers may run, and in any
    order. team: zeros, HEAD + SLOT for each convolution.
    """
    for _ in prange(workers):
        if added(team, COME, 1) == 0:
            run(program, start, stop, floats, lists, tensors, image, team)
            added(team, OVER, 1)
        else:
            follow(program, floats, lists, team)


@njit(cache=True, nogil=True)
def finite(tensors, slot, size):
    """Whether all of so many floats of a dense tensor are finite."""
    total = np.float32(0)
    for place in range(size):
        total += float_at(tensors[2 * slot], place) * np.float32(0)
    return total == 0
