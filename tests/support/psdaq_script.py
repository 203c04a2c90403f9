"""A trigger script of the constructs that scripts for LCLS-II's TEB have: psdaq's names, both ways to import them, and nothing of ours."""

SCRIPT = """
from psdaq.trigger import tebTrigger
from TmoTebData import TmoTebData
from psdaq.configdb.get_config import *
import json

ALL, NONE = 0xffffffff, 0
services = {2: 'Configure', 12: 'L1Accept'}
ds = tebTrigger.TriggerDataSource()
connect = json.loads(ds.connect_json)
ami, others = ALL, 0
for node in connect['body'].get('meb', {}).values():
    if node['proc_info']['alias'] == 'ami-meb0':
        ami = 1 << node['meb_id']
    else:
        others |= 1 << node['meb_id']
others = others or ALL
slow = 0
for node in connect['body']['drp'].values():
    group = node['det_info']['readout']
    if group != ds.args.p:
        slow |= 1 << group
if not slow:
    others |= ami
ids = {node['proc_info']['alias']: node['drp_id'] for node in connect['body']['drp'].values()}
names = {number: alias for alias, number in ids.items()}
cfg = get_config(ds.connect_json, 'BEAM', 'trigger', 0)
n = 0
for event in ds.events():
    n += 1
    persist = monitor = False
    for ctrb in event:
        assert services[ctrb.service()] == 'L1Accept' and ctrb.time.seconds() > 0 and ctrb.time.nanoseconds() >= 0
        assert names[ctrb.xtc.src.value()] and not ctrb.xtc.damage.value()
        '%014x' % ctrb.pulseId(), '%08x' % ctrb.env, ctrb.xtc.contains.value(), ctrb.xtc.extent
        data = TmoTebData(ctrb.xtc.payload())
        if data.write == cfg['persistValue']: persist = True
        if data.monitor == cfg['monitorValue']: monitor = True
    mebs = ami if ctrb.readoutGroups() & slow else others
    ds.result(persist, mebs if monitor else NONE)
print(n, 'events handled')
"""
