# shellcheck shell=bash disable=SC2034,SC2054,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# The test machine's devices. Each layout sets machine (qemu's arguments) and append (the kernel's); it may set system, the disk
# that is booted. Addresses: q35 has 2 GiB of memory below 2 GiB and the rest from 4 GiB on.
LAYOUTS="plain pristine node hmem pmem nvdimm cxl"

# $1 nodes' sizes: the first has the processors, the others none.
nodes()
{
	local n=0 size
	for size in "$@"; do
		machine+=(-object "memory-backend-ram,id=m$n,size=$size" -numa "node,nodeid=$n,memdev=m$n$([ $n -gt 0 ] || echo ,cpus=0-1)")
		n=$((n + 1))
	done
}

layout_plain()
{
	machine=(-cpu max -machine q35 -m 3G)
}

# The same machine, with Debian 13 as it is installed, and what it installs from.
layout_pristine()
{
	layout_plain
	system=pristine
}

# Ordinary memory of two nodes without processors, of different size.
layout_node()
{
	machine=(-cpu max -machine q35 -m 4G)
	nodes 2560M 1G 512M
}

# Specific-purpose memory: dax0.0 of dax_hmem, its node is 1.
layout_hmem()
{
	machine=(-cpu max -machine q35 -m 4G)
	nodes 3G 1G
	append=('memmap=1G%5G-1+0xefffffff')
}

# Legacy persistent memory: pmem0, and pmem1 in the memory of node 1.
layout_pmem()
{
	machine=(-cpu max -machine q35 -m 4G)
	nodes 3G 1G
	append=('memmap=512M!4G' 'memmap=512M!5G')
}

# 1026M, not 1G: of the rest behind the label nothing is left over by alignment.
layout_nvdimm()
{
	machine=(-cpu max -machine q35,nvdimm=on -m 4G,slots=4,maxmem=16G)
	nodes 3G 1G
	machine+=(-numa node,nodeid=2 -object memory-backend-ram,id=nv0,size=1026M
		-device nvdimm,memdev=nv0,label-size=128K,node=2)
}

# Needs a qemu that is newer than that of Debian 12, and is slow: each access to that memory leaves the emulated code. The
# kernel gives the window a node of its own only where the firmware has told it of nodes.
layout_cxl()
{
	need_qemu 9
	machine=(-cpu max,-hypervisor -machine q35,cxl=on -m 3G)
	nodes 3G
	machine+=(-object memory-backend-ram,id=cxl0,size=512M
		-device pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1 -device cxl-rp,port=0,bus=cxl.1,id=rp0,chassis=0,slot=2
		-device cxl-type3,bus=rp0,volatile-memdev=cxl0,id=cxl-mem0,sn=1
		-M cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=4G)
}
