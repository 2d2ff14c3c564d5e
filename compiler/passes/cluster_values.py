"""What every value of a program is read as while clusters are formed: a view of a stored value.

In: the program. Out: `Values`, which decides what must be stored because no nest could read it otherwise: views that are
not affine, operands whose layouts clash, tables of gathers; and the forms of values and nodes, by which equal parts are
asked about once. Next: `cluster_groups.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.compiler import families
from flambeau.compiler.codegen.access import StridedView, dense
from flambeau.compiler.codegen.iteration_space import NestForm, extents_of, nest_cuts
from flambeau.compiler.codegen.nest_rules import NestRules, Source, is_leaf_source, read_operands
from flambeau.compiler.memo import Memo
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.identity import attrs_key
from flambeau.dialects.tape.transfer import crosses


class Values(NestRules):
    """The whole program with every value resolved to a view of a stored value.

    The *form* of a value is what it is a view of, and how: the type of what is stored, how that folds, the views. The form of a
    node is its op on the forms of its operands. What a node is within a group depends on its form, and on which of its
    operands the group makes; where a window is placed at run time there is no form.
    """

    def __init__(self, graph: Graph, fold_views: bool) -> None:
        super().__init__(graph)
        self.fold_views = fold_views
        self.index_of = {v: i for i, n in enumerate(graph.nodes) for v in n.results}
        self.memo = Memo()
        self._is_on_one_device = len({aval.device for aval in graph.avals}) < 2
        self._attributes: dict[int, int] = {}  # by identity: equal layers were expanded from one fragment
        self._types: dict[int, int] = {}  # of avals, by identity, too
        self._dense: dict[int, tuple[StridedView, int]] = {}  # what is stored: its layout, and its form
        self._views: dict[
            tuple[tuple[str, int], int], tuple[StridedView, int]
        ] = {}  # by op and form below: layout, form
        self._forms: dict[int, int | None] = {v: self.memo.number(graph.avals[v]) for v in graph.inputs}
        while not self._resolve_all():
            pass
        self._of_nodes: dict[int, tuple[int | None, Sequence[int]]] = {}
        self._read_by: dict[int, Sequence[int]] = {}
        #: Nodes that have to be computed even where nobody reads what they give.
        self.counting_unread = {i for i, n in enumerate(graph.nodes) if n.counts_unread}

    def _resolve_all(self) -> bool:
        """Resolve every value; false if more values had to be stored, which changes what depends on them."""
        before = len(self.stored)
        for index, node in enumerate(self.graph.nodes):
            self._note(node)
            if self.is_computed(node):
                self.stored.update(self._clashing_operands(index))
        return len(self.stored) == before

    def _note(self, node: Node) -> None:
        """Note where a node's results are read, and their forms, having stored what must be for that."""
        is_view = self.is_looked_through(node)
        if is_view:
            if not self._note_view(node):
                self.stored.add(node.operands[0])
                self._note_view(node)
        elif is_leaf_source(node):
            self.resolve(node)
            for v in node.results:
                self._forms[v] = self._form_of_root(node, v)
        else:
            folds = node.op.family.folds
            for v in node.results:
                layout, form = self._stored(v)
                self.sources[v] = Source(v, layout)
                self._forms[v] = self._form_of_root(node, v) if folds else form
        if not self.fold_views and (is_view or node.op.name == "iota"):
            self.stored.update(node.results)

    def _note_view(self, node: Node) -> bool:
        """Note where a view's result is read, and its form: worked out once for equal views of equal values. False where it is not
        affine."""
        below, value = self.form(node.operands[0]), node.results[0]
        if below is not None:
            found = self._views.get((self._operation(node), below))
            if found is not None:
                layout, self._forms[value] = found
                self.sources[value] = Source(self.source(node.operands[0]).root, layout)
                return True
        is_affine = self.resolve(node)
        if is_affine:
            form = self._forms[value] = self._form_of_view(node, value)
            if below is not None and form is not None:
                self._views[self._operation(node), below] = self.sources[value].layout, form
        return is_affine

    def _stored(self, value: int) -> tuple[StridedView, int]:
        """The layout and the form of a value that lies in memory by itself, and folds nothing."""
        aval = self.avals[value]
        found = self._dense.get(id(aval))
        if found is None:
            found = self._dense[id(aval)] = dense(aval.shape), self.memo.number(("stored", aval, None))
        return found

    def _type(self, value: int) -> int:
        """The type of a value, by number."""
        aval = self.avals[value]
        found = self._types.get(id(aval))
        if found is None:
            found = self._types[id(aval)] = self.memo.number(aval)
        return found

    def is_looked_through(self, node: Node) -> bool:
        return node.op.family.is_view and (self._is_on_one_device or not crosses(self.graph, node))

    # ---- forms -----------------------------------------------------------------------------------------------

    def form(self, value: int) -> int | None:
        """The form of a value, by number."""
        return self._form_of_root(self.producers[value], value) if value in self.stored else self._forms[value]

    def _form_of_root(self, node: Node, value: int) -> int:
        if is_leaf_source(node) and value not in self.stored:
            return self.memo.number((self._operation(node), self.avals[value]))
        return self.memo.number(("stored", self.avals[value], self.fold_of(node)))

    def _form_of_view(self, node: Node, value: int) -> int | None:
        below = self.form(node.operands[0])
        if below is None or self.sources[value].layout.dynamic:
            return None
        return self.memo.number((self._operation(node), below))

    def _operation(self, node: Node) -> tuple[str, int]:
        """An op with its attributes."""
        if not node.attrs:
            return node.op.name, -1
        found = self._attributes.get(id(node.attrs))
        if found is None:
            found = self._attributes[id(node.attrs)] = self.memo.number(attrs_key(node.attrs))
        return node.op.name, found

    def form_and_roots(self, index: int) -> tuple[int | None, Sequence[int]]:
        """The form of a node, None where it has none, and the stored values that its operands are views of."""
        found = self._of_nodes.get(index)
        if found is None:
            node = self.graph.nodes[index]
            operands = tuple([self.form(v) for v in node.operands])
            results = tuple([self._type(v) for v in node.results])
            form = None if None in operands else self.memo.number((self._operation(node), operands, results))
            found = self._of_nodes[index] = form, [self.source(v).root for v in node.operands]
        return found

    def read_by(self, index: int) -> Sequence[int]:
        """The stored values that a node reads, one after the other: where values lie is settled."""
        found = self._read_by.get(index)
        if found is None:
            found = self._read_by[index] = [r for v in self.graph.nodes[index].operands for r in self.roots(v)]
        return found

    # ---- nests -----------------------------------------------------------------------------------------------

    def form_of(self, node: Node) -> NestForm | None:
        """The nest of a node by itself; None for what is lowered in its own way."""
        nest = families.rules(node.op).nest
        return None if nest is None else nest(self.graph, node)

    def _clashing_operands(self, index: int) -> list[int]:
        """Operands that must be stored before the node can read them all in one nest."""
        node = self.graph.nodes[index]
        if (stored := families.rules(node.op).stored) is not None:
            return stored(self, node)
        operands = node.operands
        forms = [self.form(v) for v in operands]
        if None in forms:
            return self._clashing(node)
        free = [self.is_free(self.source(v).root) for v in operands]  # something stored since counts
        first = [operands.index(v) for v in operands]
        asked = ("clashes", self._operation(node), self._type(node.results[0]), *forms, *free, *first)
        places = self.memo.answer(asked, lambda: [operands.index(v) for v in self._clashing(node)])
        return [operands[k] for k in places]

    def _clashing(self, node: Node) -> list[int]:
        form = self.form_of(node)
        if form is None:
            return [v for v in dict.fromkeys(node.operands) if not self.is_plain(v)]
        has_table = node.op.family.reads_table
        clashing, cuts = [], set(nest_cuts([self.table_layout(node)])) if has_table else set()
        if has_table and extents_of(form, cuts) is None:
            return [v for v in dict.fromkeys(node.operands) if not self.is_plain(v)]
        if has_table and self.is_free(self.source(node.operands[0]).root):
            clashing.append(node.operands[0])  # a table lies in memory
        for value in dict.fromkeys(read_operands(node)):
            layout = self.source(value).layout
            more = cuts | nest_cuts([layout]) if layout.size != 1 else cuts
            if extents_of(form, more) is None:
                clashing.append(value)
            else:
                cuts = more
        return clashing

    def is_plain(self, value: int) -> bool:
        """Whether a value lies in memory in the order of its elements."""
        return self.avals[value].size <= 1 or (
            self.source(value).layout.is_identity and not self.is_free(self.source(value).root)
        )

    def is_memory(self, value: int) -> bool:
        """Whether the value's elements are the first ones in the memory of a stored value."""
        root, layout = self.source(value)
        return layout.is_identity and not self.is_free(root)

    def views(self, value: int) -> list[Node]:
        """The views through which a value is read."""
        found, node = list[Node](), self.producers.get(value)
        while node is not None and node.results[0] not in self.stored and self.is_looked_through(node):
            found.append(node)
            node = self.producers.get(node.operands[0])
        return found

    def is_dynamic(self, value: int) -> bool:
        """Whether a value is read through a window that is placed at run time."""
        return any(view.op.name == "dynamic_slice" for view in self.views(value))
