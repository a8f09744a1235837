"""Malformed input of every kind, over the verbs that score: one sentence each, status 2, and no output left or changed.

A percent sign in a message stands for what another package or the machine says.
"""

from __future__ import annotations

import gzip
import random
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hyenadna import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    HyenaForSequenceClassification,
)
from hyenadna.cli import main

pytest.importorskip("pysam", reason="pysam is not installed: vep is left out")

GENOME = "".join(random.Random(0).choices("ACGT", k=300))
VCF = "##fileformat=VCFv4.2\n##contig=<ID=chrA>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
FILES = {
    "g.fa": f">chrA\n{GENOME}\n>chrB\n{GENOME[:90]}\n",
    "nohead.fa": "ACGT\n", "empty.fa": "", "dup.fa": ">a\nACGT\n>a\nACGT\n", "noname.fa": ">\nACGT\n", "nobases.fa": ">a\n>b\nACGT\n",
    "protein.fa": ">a\nMKLVEF\n", "fastq.fa": "@r\nACGT\n+\nIIII\n", "irregular.fa": ">a\nACGTACGT\nACG\nACGTACGT\n", "digit.fa": ">a\nAC1T\n",
    "onlyn.fa": ">a\nNNNN\n", "one.fa": ">a\nA\n",
    "two.bed": "chrA\t1\n", "rev.bed": "chrA\t9\t3\n", "zero.bed": "chrA\t3\t3\n", "neg.bed": "chrA\t-1\t3\n", "float.bed": "chrA\t1.5\t3\n",
    "chr.bed": "chrZ\t1\t3\n", "out.bed": "chrA\t290\t301\n", "strand.bed": "chrA\t1\t9\tn\t0\tx\n", "empty.bed": "",
    "score.bed": "chrA\t1\t9\tn\tNaN\t+\n", "onlycomment.bed": "# x\n",
    "noheader.vcf": "chrA\t5\t.\tA\tC\t.\t.\t.\n", "wrongline.vcf": f"{VCF}chrA\tx\t.\tA\tC\t.\t.\t.\n", "short.vcf": f"{VCF}chrA\t5\n",
    "blanks.vcf": f"{VCF}chrA 5 . A C . . .\n", "noformat.vcf": VCF.partition("\n")[2], "header.vcf": "##fileformat=VCFv4.2\n",
    "nochrom.vcf": "##fileformat=VCFv4.2\nchrA\t5\t.\tA\tC\t.\t.\t.\n", "other.vcf": f"{VCF}chrZ\t5\t.\tA\tC\t.\t.\t.\n",
    "mismatch.vcf": f"{VCF}chrA\t5\t.\t{GENOME[4]}\tAT\t.\t.\t.\nchrA\t6\t.\t{'A' if GENOME[5] != 'A' else 'C'}\tG\t.\t.\t.\n", "empty.vcf": "",
    "words.txt": "hello\n", "nocol.csv": "a,b\n1,2\n", "ragged.csv": "name,sequence\nx,ACGT,3\n", "headeronly.csv": "name,sequence\n",
    "emptyrow.csv": "name,sequence\nx,\n", "badletter.csv": "name,sequence\nx,ACXT\n", "dupcol.csv": "sequence,sequence\nACGT,ACGT\n",
    "quote.csv": 'name,sequence\nx,"ACGT\n',
    "latin.fa": b">a\nAC\xe9T\n", "cut.fa.gz": gzip.compress(b">a\n" + b"ACGT" * 500 + b"\n")[:-20], "x.fa.xz": b"\xfd7zXZ\x00rest",
    "x.fa.zip": b"PK\x03\x04rest", "bad.2bit": b"\x43\x27\x41\x1a\0\0\0\0", "a.bcf": b"BCF\x02\x02rubbish",
}  # fmt: skip

CASES = [
    ('score -m model -f nohead.fa -o o.tsv', "nohead.fa:1: expected a header that starts with '>', found 'ACGT'"),
    ('score -m model -f empty.fa -o o.tsv', 'empty.fa: the file is empty; check the command that should have filled it'),
    ('score -m model -f dup.fa -o o.tsv', "dup.fa:3: record 'a' was seen before, on line 1; names must be unique (the name is the first word of the header)"),
    ('score -m model -f noname.fa -o o.tsv', "noname.fa:1: this header has no name; expected '>name' with an optional description"),
    ('score -m model -f nobases.fa -o o.tsv', "nobases.fa:1: record 'a' has no bases; complete or remove it"),
    ('score -m model -f protein.fa -o o.tsv', "protein.fa:2: record 'a' has 'L' at position 3, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code); is this a protein FASTA?"),
    ('score -m model -f fastq.fa -o o.tsv', "fastq.fa:1: expected a header that starts with '>', found '@r'; this looks like FASTQ"),
    ('score -m model -f digit.fa -o o.tsv', "digit.fa:2: record 'a' has '1' at position 3, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code)"),
    ('score -m model -f onlyn.fa -o o.tsv', 'there is nothing to score: the sequence has no A, C, G or T after the first base (4 bases read; N is never scored); give others'),
    ('score -m model -f one.fa -o o.tsv', 'there is nothing to score: the sequence has no A, C, G or T after the first base (1 bases read; N is never scored); give others'),
    ('score -m model -f latin.fa -o o.tsv', "latin.fa:2: record 'a' has '�' at position 3, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code)"),
    ('score -m model -f cut.fa.gz -o o.tsv', 'cut.fa.gz: the compressed data end too early: the file is truncated, copy or download it again'),
    ('score -m model -f x.fa.xz -o o.tsv', 'x.fa.xz: this file is compressed with xz, but plain text, gzip or bgzip is expected; decompress it first'),
    ('score -m model -f x.fa.zip -o o.tsv', 'x.fa.zip: this file is compressed with zip, but plain text, gzip or bgzip is expected; decompress it first'),
    ('score -m model -f bad.2bit -o o.tsv', 'bad.2bit: the .2bit file is truncated: it is shorter than its header; copy it again, or pack the FASTA again'),
    ('score -m model -f folder -o o.tsv', 'folder: this is a folder, but a file is needed'),
    ('score -m model -f nothing.fa -o o.tsv', 'nothing.fa: there is no such file; check the path'),
    ('score -m model -f bundled:none/x.2bit -o o.tsv', "'bundled:none/x.2bit' is not bundled with hyenadna (bundled data sets: scerevisiae; 'hyenadna datasets fetch' gets others; bundled models: human-small-1k-equivariant, human-small-1k-masked, human-tiny-1k)"),
    ('score -m model -f irregular.fa -r a:1-5 -o o.tsv', 'irregular.fa: random access needs lines of one length within each record and UTF-8 headers, which this file does not have (%); rewrap it, or pack it once with: hyenadna pack irregular.fa -o GENOME.2bit'),
    ('score -m model -f protein.fa -r a:1-3 -o o.tsv', "protein.fa: record 'a' has 'L' at position 3, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code); is this a protein FASTA?"),
    ('score -m model -f dup.fa -r a:1-3 -o o.tsv', "dup.fa:3: record 'a' was seen before, on line 1; names must be unique (the name is the first word of the header)"),
    ('score -m model -f nohead.fa -r a:1-3 -o o.tsv', "nohead.fa:1: expected a header that starts with '>', found 'ACGT'"),
    ('score -m model -f g.fa -b two.bed -o o.tsv', "two.bed:1: expected at least three columns (chrom, start, end) separated by tabs, found 2: 'chrA 1'"),
    ('score -m model -f g.fa -b rev.bed -o o.tsv', 'rev.bed:1: start 9 is not below end 3; BED is 0-based half-open, so a span holds end - start bases, at least one'),
    ('score -m model -f g.fa -b zero.bed -o o.tsv', 'zero.bed:1: start 3 is not below end 3; BED is 0-based half-open, so a span holds end - start bases, at least one'),
    ('score -m model -f g.fa -b neg.bed -o o.tsv', "neg.bed:1: start is '-1'; expected a whole number of at least 0 (0-based half-open)"),
    ('score -m model -f g.fa -b float.bed -o o.tsv', "float.bed:1: start is '1.5'; expected a whole number of at least 0 (0-based half-open)"),
    ('score -m model -f g.fa -b chr.bed -o o.tsv', "chr.bed:1: contig 'chrZ' is not in the genome (did you mean chrB, chrA); give the genome that the file was made for, or correct the line"),
    ('score -m model -f g.fa -b out.bed -o o.tsv', "out.bed:1: region chrA:291-301 ends beyond contig 'chrA' of 300 bases; give the genome that the file was made for, or correct the line"),
    ('score -m model -f g.fa -b strand.bed -o o.tsv', "strand.bed:1: the sixth column, the strand, is 'x'; expected '+', '-' or '.'"),
    ('score -m model -f g.fa -b empty.bed -o o.tsv', 'empty.bed: the file is empty; check the command that should have filled it'),
    ('score -m model -f g.fa -b score.bed -o o.tsv', "score.bed:1: the fifth column, the score, is 'NaN'; expected a number or '.'"),
    ('score -m model -f g.fa -b onlycomment.bed -o o.tsv', 'onlycomment.bed:1: the file holds no interval; expected BED'),
    ('score -m model -f g.fa -b nothing.bed -o o.tsv', 'nothing.bed: there is no such file; check the path'),
    ('score -m model -f g.fa -r chrA:0-5 -o o.tsv', "region 'chrA:0-5' runs from 0 to 5; positions are 1-based inclusive, so the start is at least 1 and the end not before it"),
    ('score -m model -f g.fa -r chrA:9-5 -o o.tsv', "region 'chrA:9-5' runs from 9 to 5; positions are 1-based inclusive, so the start is at least 1 and the end not before it"),
    ('score -m model -f g.fa -r chrA:1-301 -o o.tsv', "region 'chrA:1-301' ends at 301, beyond contig 'chrA' of 300 bases (positions are 1-based inclusive); chrA:1- runs to the contig's end"),
    ('score -m model -f g.fa -r chrA:x-y -o o.tsv', "region 'chrA:x-y' is malformed; expected chrom:start-end, 1-based inclusive, such as chr20:1,000-2,000"),
    ('score -m model -f g.fa -r chrA:5-6:+ -o o.tsv', "region 'chrA:5-6:+' is malformed; expected chrom:start-end, 1-based inclusive, such as chr20:1,000-2,000"),
    ('score -m model -f g.fa -r chrZ:1-5 -o o.tsv', "contig 'chrZ' is not in the genome (did you mean chrB, chrA)"),
    ('score -m model -f g.fa -r chra:1-5 -o o.tsv', "contig 'chra' is not in the genome (did you mean chrA)"),
    ('score -m model -f g.fa -r :1-5 -o o.tsv', "region ':1-5' is malformed; expected chrom:start-end, 1-based inclusive, such as chr20:1,000-2,000"),
    ("score -m model -f g.fa -r '' -o o.tsv", "region '' is malformed; expected chrom:start-end, 1-based inclusive, such as chr20:1,000-2,000"),
    ('score -m model -f g.fa -r chrA: -o o.tsv', "region 'chrA:' is malformed; expected chrom:start-end, 1-based inclusive, such as chr20:1,000-2,000"),
    ('score -m model -f g.fa -r chrA:1..5 -o o.tsv', "region 'chrA:1..5' is malformed; expected chrom:start-end, 1-based inclusive, such as chr20:1,000-2,000"),
    ('score -m model -f g.fa -r chrA:-5-9 -o o.tsv', "region 'chrA:-5-9' is malformed; expected chrom:start-end, 1-based inclusive, such as chr20:1,000-2,000"),
    ('score -m model -i words.txt -o o.tsv', "words.txt:1: sequence 'sequence_1' has 'e' at position 2, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code); is this protein?"),
    ('score -m model -i nocol.csv -o o.tsv', "nocol.csv:1: the table has the columns 'a', 'b', none of them 'sequence' or 'seq' or 'dna'; name the column of the sequences with --sequence-column"),
    ('score -m model -i ragged.csv -o o.tsv', 'ragged.csv:2: the row has 3 fields, the header 2; complete it, and quote fields that hold the delimiter'),
    ('score -m model -i headeronly.csv -o o.tsv', 'headeronly.csv:1: the table has a header but no rows; at least one is needed'),
    ('score -m model -i emptyrow.csv -o o.tsv', "emptyrow.csv:2: sequence 'x' is empty; complete or remove the row"),
    ('score -m model -i badletter.csv -o o.tsv', "badletter.csv:2: sequence 'x' has 'X' at position 3, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code); is this protein?"),
    ('score -m model -i dupcol.csv -o o.tsv', "dupcol.csv:1: the table has 2 columns 'sequence'; rename all but one"),
    ('score -m model -i quote.csv -o o.tsv', 'quote.csv:2: the table is malformed (unexpected end of data); check its quotes'),
    ('score -m model -i nothing.csv -o o.tsv', 'nothing.csv: there is no such file; check the path'),
    ('score -m model -i fastq.fa -o o.tsv', "fastq.fa:1: expected a header that starts with '>', found '@r'; this looks like FASTQ"),
    ('score -m classifier -f g.fa -o o.tsv', 'classifier holds a sequence classifier, not a language model; give one (predict, evaluate and embed take classifiers), or load it in Python with HyenaForSequenceClassification.from_pretrained'),
    ('score -m truncated -f g.fa -o o.tsv', 'truncated/model.safetensors is no readable weights file (%); copy or download it again'),
    ('score -m noweights -f g.fa -o o.tsv', 'the folder noweights holds no weights; expected one of model.safetensors, pytorch_model.bin, weights.ckpt'),
    ('score -m noconfig -f g.fa -o o.tsv', "noconfig/config.json is missing: the weights alone do not say the model's shape; put the model's config.json beside them, or pass config=FILE in Python"),
    ('score -m badconfig -f g.fa -o o.tsv', 'badconfig/config.json is not readable as JSON: %; copy or download it again'),
    ('score -m oddconfig -f g.fa -o o.tsv', "oddconfig/config.json does not describe a HyenaDNA model: model d_model='eight' is impossible; an integer ≥ 1 is needed"),
    ('score -m nothing -f g.fa -o o.tsv', "no model at 'nothing': expected a model folder, a run folder, a weights file, a hub id 'owner/name' or bundled:NAME"),
    ('score -m folder -f g.fa -o o.tsv', 'the folder folder holds no weights; expected one of model.safetensors, pytorch_model.bin, weights.ckpt'),
    ('score -m g.fa -f g.fa -o o.tsv', "config.json is missing: the weights alone do not say the model's shape; put the model's config.json beside them, or pass config=FILE in Python"),
    ('score -m nan -f g.fa -o o.tsv', "the model answers sequence 'chrA' with nan, which is no likelihood: its weights are damaged, or its training diverged; use another one"),
    ('score -m no/such/hub -f g.fa -o o.tsv', "no model at 'no/such/hub': expected a model folder, a run folder, a weights file, a hub id 'owner/name' or bundled:NAME"),
    ('score -m model -f g.fa -o o.tsv --window 1', 'window is 1; expected 2 to 66, the longest input of this model'),
    ('score -m model -f g.fa -o o.tsv --window 67', 'window is 67; expected 2 to 66, the longest input of this model'),
    ('score -m model -f g.fa -o o.tsv --stride 0', 'stride is 0; expected 1 to 65, less than the window of 66'),
    ('score -m model -f g.fa -o o.tsv --stride 66', 'stride is 66; expected 1 to 65, less than the window of 66'),
    ('score -m model -f g.fa -o o.tsv --batch-size 0', "--batch-size is '0'; expected auto or a number of at least 1"),
    ('score -m model -f g.fa -o o.tsv --batch-size many', "--batch-size is 'many'; expected auto or a number of at least 1"),
    ('score -m model -f g.fa -o o.tsv --dtype fp16', "--dtype 'fp16' is unknown; expected auto, fp32 or bf16"),
    ('score -m model -f g.fa -o o.tsv --device tpu', "device 'tpu' is unknown; expected auto, cpu, cuda or cuda:N"),
    ('score -m model -f g.fa -o o.tsv --device cuda:7', "device 'cuda:7' is not there: torch sees % GPUs; use --device auto or cpu"),
    ('score -m model -f g.fa -o o.tsv --context 5', '--context is about tracks (--per-base, --entropy); a table takes --stride'),
    ('score -m model -f g.fa -o o.tsv --sequence-column x', '--sequence-column and --name-column are about tables given with -i'),
    ('score -m model -f g.fa -o o.tsv --frobnicate', "No such option: --frobnicate%; see 'hyenadna score --help'"),
    ('score -m model -f g.fa -o o.tsv --window x', "Invalid value for '--window': %, found 'x'; see 'hyenadna score --help'"),
    ('score -m model -o o.tsv', 'say what to score: a file of sequences, or a genome with -f (one of the two)'),
    ('score -m model -f g.fa -i g.fa -o o.tsv', 'say what to score: a file of sequences, or a genome with -f (one of the two)'),
    ('score -m model -f g.fa -o g.fa --force', 'g.fa is an input of this command; choose another name for the output'),
    ('score -m model -f g.fa -o no/o.tsv', 'output no/o.tsv cannot be written: the folder no does not exist; create it first'),
    ('score -m model -f g.fa -o folder', 'output folder is a folder, but a file is to be written; name a file in it'),
    ('score -m model -f g.fa --per-base x.txt', "the track 'x.txt' has no known format; expected a name that ends with .bedGraph, .bedGraph.gz, .bw or .npz"),
    ('score -m model -f g.fa --per-base x.npz --context 66', 'context is 66; expected 1 to 65, less than the window of 66'),
    ('score -m model -f g.fa --report x.txt -o o.tsv', "--report is 'x.txt'; expected a name that ends with .html"),
    ('score g.fa -i g.fa -o o.tsv', 'g.fa and -i g.fa both name sequences; give one of them'),
    ('score -m bundled:nothing g.fa -o o.tsv', "'bundled:nothing' is not bundled with hyenadna (bundled data sets: scerevisiae; 'hyenadna datasets fetch' gets others; bundled models: human-small-1k-equivariant, human-small-1k-masked, human-tiny-1k)"),
    ('score -m bundled:scerevisiae g.fa -o o.tsv', "'bundled:scerevisiae' is no model; bundled models: bundled:human-small-1k-equivariant, bundled:human-small-1k-masked, bundled:human-tiny-1k"),
    ('evaluate -f g.fa', "Missing option '--model' / '-m'; see 'hyenadna evaluate --help'"),
    ('predict -m classifier -o o.tsv', 'say what to classify: a file of sequences, or a genome with -f (one of the two)'),
    ('predict -m classifier g.fa -i g.fa -o o.tsv', 'g.fa and -i g.fa both name sequences; give one of them'),
    ('predict -m classifier g.fa -r chrA:1-5 -o o.tsv', '-r and -b are regions of a genome; give the genome with -f'),
    ('predict -m classifier -f g.fa --name-column x -o o.tsv', '--sequence-column and --name-column are about tables given with -i'),
    ('predict g.fa -o o.tsv', "Missing option '--model' / '-m'; see 'hyenadna predict --help'"),
    ('predict -m model g.fa -o o.tsv', "model holds a language model, which knows no classes; make a classifier of it with 'hyenadna finetune data.path=FOLDER model.pretrained=model', or take 'hyenadna embed'"),
    ('predict -m masked g.fa -o o.tsv', "masked holds a language model, which knows no classes; make a classifier of it with 'hyenadna finetune data.path=FOLDER model.pretrained=masked', or take 'hyenadna embed'"),
    ('predict -m bundled:human-tiny-1k g.fa -o o.tsv', "bundled:human-tiny-1k holds a language model, which knows no classes; make a classifier of it with 'hyenadna finetune data.path=FOLDER model.pretrained=bundled:human-tiny-1k', or take 'hyenadna embed'"),
    ('predict -m nothing g.fa -o o.tsv', "no model at 'nothing': expected a model folder, a run folder, a weights file, a hub id 'owner/name' or bundled:NAME"),
    ('predict -m folder g.fa -o o.tsv', 'the folder folder holds no weights; expected one of model.safetensors, pytorch_model.bin, weights.ckpt'),
    ('predict -m truncated g.fa -o o.tsv', 'truncated/model.safetensors is no readable weights file (%); copy or download it again'),
    ('predict -m badstrands g.fa -o o.tsv', 'badstrands/finetuning.json does not say which strands the classifier reads (%); copy it again from the run, or remove it and give --rc or --no-rc'),
    ('predict -m oddstrands g.fa -o o.tsv', "oddstrands/finetuning.json names the strands 'reverse'; expected one of forward, predict_both, both"),
    ('predict -m nanclassifier one.fa -o o.tsv', "the model classifies sequence 'a' with NaN or infinity: its weights are damaged, or its training diverged; use another one"),
    ('predict -m classifier g.fa -o o.tsv', "sequence 'chrA' has 300 bases, but this classifier reads a sequence as a whole, of 1 to 66; cut it, or choose a shorter region, around the place in question"),
    ('predict -m classifier -f g.fa -r chrA:1-67 -o o.tsv', "sequence 'chrA:1-67' has 67 bases, but this classifier reads a sequence as a whole, of 1 to 66; cut it, or choose a shorter region, around the place in question"),
    ('predict -m classifier -f g.fa -r chrA:1-301 -o o.tsv', "region 'chrA:1-301' ends at 301, beyond contig 'chrA' of 300 bases (positions are 1-based inclusive); chrA:1- runs to the contig's end"),
    ('predict -m classifier -f g.fa -r chrZ:1-5 -o o.tsv', "contig 'chrZ' is not in the genome (did you mean chrB, chrA)"),
    ('predict -m classifier -f g.fa -b rev.bed -o o.tsv', 'rev.bed:1: start 9 is not below end 3; BED is 0-based half-open, so a span holds end - start bases, at least one'),
    ('predict -m classifier -f g.fa -b strand.bed -o o.tsv', "strand.bed:1: the sixth column, the strand, is 'x'; expected '+', '-' or '.'"),
    ('predict -m classifier nothing.fa -o o.tsv', 'nothing.fa: there is no such file; check the path'),
    ('predict -m classifier empty.fa -o o.tsv', 'empty.fa: the file is empty; check the command that should have filled it'),
    ('predict -m classifier nobases.fa -o o.tsv', "nobases.fa:1: record 'a' has no bases; complete or remove it"),
    ('predict -m classifier dup.fa -o o.tsv', "dup.fa:3: record 'a' was seen before, on line 1; names must be unique (the name is the first word of the header)"),
    ('predict -m classifier protein.fa -o o.tsv', "protein.fa:2: record 'a' has 'L' at position 3, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code); is this a protein FASTA?"),
    ('predict -m classifier fastq.fa -o o.tsv', "fastq.fa:1: expected a header that starts with '>', found '@r'; this looks like FASTQ"),
    ('predict -m classifier cut.fa.gz -o o.tsv', 'cut.fa.gz: the compressed data end too early: the file is truncated, copy or download it again'),
    ('predict -m classifier words.txt -o o.tsv', "words.txt:1: sequence 'sequence_1' has 'e' at position 2, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code); is this protein?"),
    ('predict -m classifier nocol.csv -o o.tsv', "nocol.csv:1: the table has the columns 'a', 'b', none of them 'sequence' or 'seq' or 'dna'; name the column of the sequences with --sequence-column"),
    ('predict -m classifier headeronly.csv -o o.tsv', 'headeronly.csv:1: the table has a header but no rows; at least one is needed'),
    ('predict -m classifier emptyrow.csv -o o.tsv', "emptyrow.csv:2: sequence 'x' is empty; complete or remove the row"),
    ('predict -m classifier emptyrow.csv', "emptyrow.csv:2: sequence 'x' is empty; complete or remove the row"),
    ('predict -m classifier ragged.csv -o o.tsv', 'ragged.csv:2: the row has 3 fields, the header 2; complete it, and quote fields that hold the delimiter'),
    ('predict -m classifier one.fa -o one.fa --force', 'one.fa is an input of this command; choose another name for the output'),
    ('predict -m classifier one.fa -o no/o.tsv', 'output no/o.tsv cannot be written: the folder no does not exist; create it first'),
    ('predict -m classifier one.fa -o folder', 'output folder is a folder, but a file is to be written; name a file in it'),
    ('predict -m classifier one.fa -o empty.bed', 'output empty.bed exists already; %--force%'),
    ('predict -m classifier one.fa -o o.tsv --batch-size 0', "--batch-size is '0'; expected auto or a number of at least 1"),
    ('predict -m classifier one.fa -o o.tsv --device tpu', "device 'tpu' is unknown; expected auto, cpu, cuda or cuda:N"),
    ('predict -m classifier one.fa -o o.tsv --dtype fp16', "--dtype 'fp16' is unknown; expected auto, fp32 or bf16"),
    ('predict -m classifier one.fa --resume', '--resume needs inputs and an output that are files; a stream cannot be read twice'),
    ('predict -m classifier one.fa --window 5', "No such option: --window%; see 'hyenadna predict --help'"),
    ('vep -m model -f g.fa -i noheader.vcf -o o.vcf', "noheader.vcf:1: variant 'chrA\\t5\\t.\\tA\\tC\\t.\\t.\\t.' is malformed; expected chr22:1024:A>C, 22-1024-A-C, 22_1024_A_C or chr22_1024_A_C_b38, with 1-based positions; this looks like VCF without its header, whose lines ##fileformat=VCFv4.2 and #CHROM… come first"),
    ('vep -m model -f g.fa -i wrongline.vcf -o o.vcf', "wrongline.vcf:4: this is no VCF record: expected 8 or more columns separated by tabs, with a whole number as POS, in UTF-8; found 'chrA\\tx\\t.\\tA\\tC\\t.\\t.\\t.'"),
    ('vep -m model -f g.fa -i short.vcf -o o.vcf', "short.vcf:4: this is no VCF record: expected 8 or more columns separated by tabs, with a whole number as POS, in UTF-8; found 'chrA\\t5'"),
    ('vep -m model -f g.fa -i blanks.vcf -o o.vcf', "blanks.vcf:4: this is no VCF record: expected 8 or more columns separated by tabs, with a whole number as POS, in UTF-8; found 'chrA 5 . A C . . .'"),
    ('vep -m model -f g.fa -i noformat.vcf -o o.vcf', 'noformat.vcf:1: this looks like VCF but does not begin with ##fileformat=VCFv4.…; add that line, with nothing before it'),
    ('vep -m model -f g.fa -i header.vcf -o o.vcf', 'header.vcf: the VCF header is malformed; expected ## lines and then #CHROM POS ID REF ALT QUAL FILTER INFO'),
    ('vep -m model -f g.fa -i nochrom.vcf -o o.vcf', 'nochrom.vcf: the VCF header is malformed; expected ## lines and then #CHROM POS ID REF ALT QUAL FILTER INFO'),
    ('vep -m model -f g.fa -i other.vcf -o o.vcf', "no allele fits the genome (1 unknown_contig); the first is chrZ:5:A>C: contig 'chrZ' is not in the genome (did you mean chrB, chrA); give the genome that the variants were called on"),
    ('vep -m model -f g.fa -i empty.vcf -o o.vcf', 'empty.vcf: the file is empty; check the command that should have filled it'),
    ('vep -m model -f g.fa -i words.txt -o o.vcf', "words.txt:1: variant 'hello' is malformed; expected chr22:1024:A>C, 22-1024-A-C, 22_1024_A_C or chr22_1024_A_C_b38, with 1-based positions"),
    ('vep -m model -f g.fa -i a.bcf -o o.vcf', 'a.bcf: the BCF header is damaged or truncated; copy or download the file again'),
    ('vep -m model -f g.fa -i nothing.vcf -o o.vcf', 'nothing.vcf: there is no such file; check the path'),
    ('vep -m model -f g.fa -i folder -o o.vcf', 'folder: this is a folder, but a file is needed'),
    ('vep -m model -f g.fa -i mismatch.vcf -o o.vcf --on-error stop', 'chrA:6:A>G: REF has A where the genome has C (chrA:6) (--on-error skip would go on)'),
    ('vep -m model -f g.fa -i other.vcf -o o.dat', 'the name o.dat does not tell its format; add --format vcf or tsv'),
    ('vep -m model -f g.fa -i other.vcf --format xml', "--format 'xml' is unknown; expected vcf or tsv"),
    ('vep -m model -f g.fa -i other.vcf --on-error x', "--on-error 'x' is unknown; expected skip or stop"),
    ('vep -m model -f g.fa', 'say what to score: a file with -i, or --variant (one of the two)'),
    ("vep -m model -f g.fa -i other.vcf --variant 'chrA:1:A>C'", 'say what to score: a file with -i, or --variant (one of the two)'),
    ("vep -m model -f g.fa --variant 'chrA:1:A>C' --window 3", 'window is 3; expected 4 to 66, the longest input of this model'),
    ("vep -m model -f g.fa --variant 'chrA:1:A>C' --radius -1", 'radius is -1; expected a number of bases of at least 0'),
    ("vep -m model -f g.fa --variant 'chrA:0:A>C' -o o.tsv", "variant 'chrA:0:A>C' has position 0; positions are 1-based, so at least 1"),
    ('vep -m model -f g.fa --variant chrA-5-A -o o.tsv', "variant 'chrA-5-A' is malformed; expected chr22:1024:A>C, 22-1024-A-C, 22_1024_A_C or chr22_1024_A_C_b38, with 1-based positions"),
    ("vep -m model -f g.fa --variant 'chrA:5:A>' -o o.tsv", "variant 'chrA:5:A>' is malformed; expected chr22:1024:A>C, 22-1024-A-C, 22_1024_A_C or chr22_1024_A_C_b38, with 1-based positions"),
    ("vep -m model -f g.fa --variant 'chrA:5:A>Q' -o o.tsv", "variant 'chrA:5:A>Q' is malformed; expected chr22:1024:A>C, 22-1024-A-C, 22_1024_A_C or chr22_1024_A_C_b38, with 1-based positions"),
    ('vep -m model -f g.fa --variant 5 -o o.tsv', "variant '5' is malformed; expected chr22:1024:A>C, 22-1024-A-C, 22_1024_A_C or chr22_1024_A_C_b38, with 1-based positions"),
    ("vep -m model -f g.fa --variant '' -o o.tsv", "variant '' is malformed; expected chr22:1024:A>C, 22-1024-A-C, 22_1024_A_C or chr22_1024_A_C_b38, with 1-based positions"),
    ("vep -m model -f g.fa --variant 'chrZ:5:A>C' -o o.tsv", "no allele fits the genome (1 unknown_contig); the first is chrZ:5:A>C: contig 'chrZ' is not in the genome (did you mean chrB, chrA); give the genome that the variants were called on"),
    ("vep -m model -f g.fa --variant 'chrA:999:A>C' -o o.tsv", "no allele fits the genome (1 outside_contig); the first is chrA:999:A>C: region chrA:999-999 ends beyond contig 'chrA' of 300 bases; give the genome that the variants were called on"),
    ('embed -m model -o o.npz -f nothing.fa', 'nothing.fa: there is no such file; check the path'),
    ('embed -m model -o o.npz -i protein.fa', "protein.fa:2: record 'a' has 'L' at position 3, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code); is this a protein FASTA?"),
    ('embed -m model -o o.npz -f g.fa -b rev.bed', 'rev.bed:1: start 9 is not below end 3; BED is 0-based half-open, so a span holds end - start bases, at least one'),
    ('embed -m model -o o.npz -f g.fa --layer 2', 'layer is 2; expected 0 (the embedding) to 1, the last block of this model'),
    ('embed -m model -o o.npz -f g.fa --layer -1', 'layer is -1; expected 0 (the embedding) to 1, the last block of this model'),
    ('embed -m model -o o.npz -f g.fa --pooling sum', "--pooling 'sum' is unknown; expected mean, last, max, per-base"),
    ('embed -m model -o o.npz -f g.fa --strands x', "strands 'x' is unknown; expected one of forward, average, both"),
    ('embed -m model -f g.fa -o o.csv', "the output 'o.csv' has no known format; expected a name that ends with .npz, .parquet, .h5, .hdf5, .zarr"),
    ('embed -m nan -f g.fa -o o.npz', "the model embeds sequence 'chrA' with NaN or infinity: its weights are damaged, or its training diverged; use another one"),
    ('embed -m truncated -f g.fa -o o.npz', 'truncated/model.safetensors is no readable weights file (%); copy or download it again'),
    ('ism -m model -f g.fa -o o.tsv -r chrZ:1-5', "contig 'chrZ' is not in the genome (did you mean chrB, chrA)"),
    ('ism -m model -f g.fa -o o.tsv -r chrA:1-999', "region 'chrA:1-999' ends at 999, beyond contig 'chrA' of 300 bases (positions are 1-based inclusive); chrA:1- runs to the contig's end"),
    ('ism -m model -f g.fa -o o.tsv -r chrA:5-1', "region 'chrA:5-1' runs from 5 to 1; positions are 1-based inclusive, so the start is at least 1 and the end not before it"),
    ('ism -m model -f g.fa -o o.tsv -r x', "contig 'x' is not in the genome (it has chrA, chrB)"),
    ('ism -m model -f g.fa -o o.tsv -r chrA:1-9 --method fast', "method 'fast' is unknown; expected exact or gradient"),
    ('ism -m model -f g.fa -o o.tsv -r chrA:1-9 --method gradient --deletions', "deletions and a radius are of method 'exact'; leave them out, or choose it"),
    ('ism -m model -f g.fa -o o.tsv -r chrA:1-9 --radius -1', "Invalid value for '--radius': %, found '-1'; see 'hyenadna ism --help'"),
    ('ism -m model -f g.fa -o o.tsv -r chrA:1-9 --window 99', 'window is 99; expected 4 to 66, the longest input of this model'),
    ('ism -m model -f g.fa -o o.tsv -r chrA:1-9 --plot x.pdf', "--plot is 'x.pdf'; expected a name that ends with .png or .svg"),
    ('ism -m model -f onlyn.fa -r a:1-4 -o o.tsv', 'none of the 4 bases of a:1-4 is A, C, G or T; choose another region'),
    ('ism -m nan -f g.fa -r chrA:1-4 -o o.tsv', 'the model answers variant chrA:1:T>A with nan, which is no log-likelihood ratio: its weights are damaged, or its training diverged; use another one'),
    ('ism -m nan -f g.fa -r chrA:1-4 -o o.tsv --method gradient', 'the model answers with NaN or infinity: its weights are damaged, or its training diverged; use another one'),
    ('ism -m classifier -f g.fa -r chrA:1-4 -o o.tsv', 'classifier holds a sequence classifier, not a language model; give one (predict, evaluate and embed take classifiers), or load it in Python with HyenaForSequenceClassification.from_pretrained'),
    ('generate -m model -o o.fa -n 5', 'say what to continue: bases with -p, or a file of prompts with -i (one of the two)'),
    ('generate -m model -o o.fa -n 5 -p ACGT -i g.fa', 'say what to continue: bases with -p, or a file of prompts with -i (one of the two)'),
    ("generate -m model -o o.fa -n 5 -p ''", 'prompt 1 is empty; at least one base is needed'),
    ('generate -m model -o o.fa -n 5 -p XYZ', "the sequence has 'X' at position 1, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code); is this protein?"),
    ('generate -m model -o o.fa -n 5 -p ACGT --gc 0.6', "--gc is '0.6'; expected two shares, as in 0.4-0.6"),
    ('generate -m model -o o.fa -n 5 -p ACGT --gc 0.6-0.4', 'the GC range is 0.6 to 0.4; expected 0 <= low <= high <= 1'),
    ('generate -m model -o o.fa -n 5 -p ACGT --gc 0.0-2', 'the GC range is 0.0 to 2.0; expected 0 <= low <= high <= 1'),
    ('generate -m model -o o.fa -n 5 -p ACGT --temperature -1', 'temperature is -1.0; expected a number of at least 0'),
    ('generate -m model -o o.fa -n 5 -p ACGT --top-p 0', 'top_p is 0.0; expected above 0 and at most 1'),
    ('generate -m model -o o.fa -n 5 -p ACGT --top-k 0', "Invalid value for '--top-k': %, found '0'; see 'hyenadna generate --help'"),
    ('generate -m model -o o.fa -n 5 -p ACGT --forbid XX', "the forbidden motif is 'XX'; expected A, C, G and T, at least one of them"),
    ("generate -m model -o o.fa -n 5 -p ACGT --forbid ''", "the forbidden motif is ''; expected A, C, G and T, at least one of them"),
    ('generate -m model -o o.fa -n 5 -p ACGT --template NNN', 'the template has 3 letters for 5 bases to generate; expected as many'),
    ('generate -m model -o o.fa -n 5 -p ACGT --template NNNXX', "the template holds 'X'; expected A, C, G, T, and N where any base may come"),
    ('generate -m model -o o.fa -n 5 -p ACGT -n 0', "Invalid value for '--length' / '-n': %, found '0'; see 'hyenadna generate --help'"),
    ('generate -m model -o o.fa -n 5 -p ACGT -n 1000', 'prompt 1 of 4 bases and 1,000 more are beyond the 66 that this model reads; shorten the prompt or generate fewer'),
    ('generate -m model -o o.fa -n 5 -p ACGT --format gff', "--format 'gff' is unknown; expected fasta or jsonl"),
    ('generate -m model -o o.fa -n 5 -p ACGT --seed -1', "Invalid value for '--seed': %, found '-1'; see 'hyenadna generate --help'"),
    ('generate -m model -o o.fa -n 5 -i nothing.fa', 'nothing.fa: there is no such file; check the path'),
    ('generate -m model -o o.fa -n 5 -i badletter.csv', "badletter.csv:2: sequence 'x' has 'X' at position 3, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity code); is this protein?"),
    ('generate -m model -o o.fa -n 5 -p ACGT -m nan', 'the model answers with NaN: its weights are damaged, or its training diverged; use another one'),
    ('generate -m model -o o.fa -n 5 -p ACGT --gc 0.5-0.5 -n 5', 'no number of G and C in 5 bases has a share from 0.5 to 0.5; widen the GC range'),
    ('generate -m model -o o.fa -n 5 -p ACGT --temperature nan', 'temperature is nan; expected a number of at least 0'),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of the files, and models: good, of another kind, and damaged in several ways."""
    here = tmp_path_factory.mktemp("malformed")
    for name, content in FILES.items():
        (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (here / "folder").mkdir()
    torch.manual_seed(0)
    config = HyenaConfig(d_model=8, n_layers=1, max_seq_len=66)
    model = HyenaForCausalLM(config)
    model.save_pretrained(here / "model")
    classifier = HyenaForSequenceClassification(config, n_classes=2)
    for name, strands in (("classifier", None), ("badstrands", "{"), ("oddstrands", '{"strands": "reverse"}')):  # fmt: skip
        classifier.save_pretrained(here / name)
        if strands is not None:
            (here / name / "finetuning.json").write_text(strands)
    HyenaForMaskedLM(replace(config, bidirectional=True)).save_pretrained(here / "masked")
    with torch.no_grad():
        classifier.head.classifier.weight.fill_(float("nan"))
        classifier.save_pretrained(here / "nanclassifier")
        model.lm_head.weight.fill_(float("nan"))
    model.save_pretrained(here / "nan")
    for name in ("truncated", "noweights", "noconfig", "badconfig", "oddconfig"):
        shutil.copytree(here / "model", here / name)
    weights = here / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    (here / "noweights" / "model.safetensors").unlink()
    (here / "noconfig" / "config.json").unlink()
    (here / "badconfig" / "config.json").write_text("{")
    odd = here / "oddconfig" / "config.json"
    odd.write_text(odd.read_text().replace('"d_model": 8', '"d_model": "eight"'))
    return here


def _content(folder: Path) -> dict[str, bytes]:
    """Return every file but FASTA indices, which stay beside their FASTA as samtools' do."""
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".fai"}  # fmt: skip


def _refused(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*shlex.split(command), "-q"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(("command", "message"), CASES, ids=[command for command, _ in CASES])
def test_malformed_input_is_one_sentence_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    before = _content(folder)
    said = _refused(command, capsys)
    assert re.fullmatch(".*".join(map(re.escape, message.split("%"))), said), said
    assert _content(folder) == before


def test_output_that_exists_is_not_changed_by_a_mistake(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    old = {}
    for verb, name, words in (
        ("score", "o.tsv", "-f digit.fa"),
        ("vep", "o.vcf", "-f g.fa -i short.vcf"),
        ("embed", "o.npz", "-i protein.fa"),
        ("ism", "i.tsv", "-f g.fa -r chrA:1-999"),
        ("generate", "o.fa", "-p XYZ"),
        ("predict -m classifier", "p.tsv", "g.fa"),
    ):
        out = tmp_path / name
        out.write_text("old")
        old[out] = "old"
        _refused(f"{verb if '-m' in verb else f'{verb} -m model'} {words} -o {out} --force", capsys)
    assert {p: p.read_text() for p in tmp_path.iterdir()} == old


@pytest.mark.parametrize(
    "command",
    [
        "score -m model -f g.fa -o {}",
        "predict -m classifier -f g.fa -r chrA:1-66 -o {}",
        "vep -m model -f g.fa --variant chrA:5:{ref}>{alt} -o {}",
    ],
)
def test_the_good_files_are_good(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    alt = "A" if GENOME[4] != "A" else "C"
    words = command.format(tmp_path / "o.tsv", ref=GENOME[4], alt=alt)
    assert main([*shlex.split(words), "-q"]) == 0
