/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked list, circular with a head. */
#pragma once

#include <stdbool.h>

#include "userspace/base/mem.h"

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(head)                                                                                                \
	{                                                                                                              \
		&(head), &(head)                                                                                       \
	}

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_add_tail(struct list *head, struct list *item)
{
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}

static inline void list_add_head(struct list *head, struct list *item)
{
	list_add_tail(head->next, item);
}

/* Unlinks and re-initialises, so that a second call does no harm. */
static inline void list_del(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)
#define list_foreach(it, head, type, member)                                                                           \
	for (type *it = list_entry((head)->next, type, member); &it->member != (head);                                 \
	     it = list_entry(it->member.next, type, member))
/* The current item may be deleted in the body. */
#define list_foreach_safe(it, head, type, member)                                                                      \
	for (type *it = list_entry((head)->next, type, member),                                                        \
		  *it##_next = list_entry(it->member.next, type, member);                                              \
	     &it->member != (head); it = it##_next, it##_next = list_entry(it->member.next, type, member))
